package directory

import (
	"context"
	"sync/atomic"
	"time"
)

// Usage counts what one request asks of the directory server. It is safe for concurrent use.
type Usage struct {
	operations, nanoseconds atomic.Int64
}

// Add counts one operation that took d.
func (u *Usage) Add(d time.Duration) {
	if u != nil {
		u.operations.Add(1)
		u.nanoseconds.Add(int64(d))
	}
}

// Operations returns how many operations were counted.
func (u *Usage) Operations() int64 { return u.operations.Load() }

// Time returns how long they took together.
func (u *Usage) Time() time.Duration { return time.Duration(u.nanoseconds.Load()) }

type usageKey struct{}

// WithUsage returns a context whose operations u counts.
func WithUsage(ctx context.Context, u *Usage) context.Context {
	return context.WithValue(ctx, usageKey{}, u)
}

// UsageFrom returns the Usage of a context made by [WithUsage], or nil, which counts nothing.
func UsageFrom(ctx context.Context) *Usage {
	u, _ := ctx.Value(usageKey{}).(*Usage)
	return u
}
