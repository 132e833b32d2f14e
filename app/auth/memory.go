package auth

import (
	"context"
	"crypto/subtle"
	"sync"
	"time"

	"rollcall/app/directory"
)

// Memory keeps sessions in memory, where they end with the process and no other knows them.
type Memory struct {
	mutex    sync.Mutex
	sessions map[string]kept
}

type kept struct {
	directory.Session

	changed time.Time
}

// NewMemory returns a Memory without sessions.
func NewMemory() *Memory { return &Memory{sessions: map[string]kept{}} }

// Begin implements [directory.Sessions].
func (m *Memory) Begin(_ context.Context, session directory.Session) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.sessions[session.ID] = kept{session, time.Now()}
	return nil
}

// Session implements [directory.Sessions].
func (m *Memory) Session(_ context.Context, id string) (directory.Session, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	found, ok := m.sessions[id]
	if !ok {
		return directory.Session{}, &directory.Error{Code: directory.NotFound}
	}
	return found.Session, nil
}

// Rotate implements [directory.Sessions].
func (m *Memory) Rotate(_ context.Context, id, from, to string) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	found, ok := m.sessions[id]
	if !ok {
		return &directory.Error{Code: directory.NotFound}
	}
	if subtle.ConstantTimeCompare([]byte(found.Token), []byte(from)) == 0 {
		return &directory.Error{Code: directory.Stale}
	}
	found.Token, found.changed = to, time.Now()
	m.sessions[id] = found
	return nil
}

// End implements [directory.Sessions].
func (m *Memory) End(_ context.Context, id string) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	delete(m.sessions, id)
	return nil
}

// Sweep implements [directory.Sessions].
func (m *Memory) Sweep(_ context.Context, before time.Time) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for id, session := range m.sessions {
		if session.changed.Before(before) {
			delete(m.sessions, id)
		}
	}
	return nil
}
