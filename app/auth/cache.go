package auth

import (
	"maps"
	"sync"
	"time"
)

// maxRemembered bounds what is remembered; past it, what has run out is thrown away.
const maxRemembered = 10_000

// cache remembers what was read for a while. The zero cache is ready for use.
type cache[V any] struct {
	mutex sync.Mutex
	// generation counts what was forgotten, so that what was read before is not remembered after.
	generation int
	entries    map[string]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

// read returns what is remembered under a key, or reads it.
func (c *cache[V]) read(key string, lifetime time.Duration, read func() (V, error)) (V, error) {
	c.mutex.Lock()
	found, ok := c.entries[key]
	generation := c.generation
	c.mutex.Unlock()
	now := time.Now()
	if ok && now.Before(found.until) {
		return found.value, nil
	}
	value, err := read()
	if err != nil || lifetime <= 0 {
		return value, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.generation != generation {
		return value, nil
	}
	if len(c.entries) >= maxRemembered {
		maps.DeleteFunc(c.entries, func(_ string, r remembered[V]) bool { return now.After(r.until) })
	}
	if len(c.entries) < maxRemembered {
		if c.entries == nil {
			c.entries = make(map[string]remembered[V])
		}
		c.entries[key] = remembered[V]{value, now.Add(lifetime)}
	}
	return value, nil
}

// forget forgets what matches.
func (c *cache[V]) forget(matches func(V) bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.generation++
	maps.DeleteFunc(c.entries, func(_ string, r remembered[V]) bool { return matches(r.value) })
}
