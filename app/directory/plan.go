package directory

import (
	"context"
	"slices"
	"sync"
)

// Plan collects what a dry run would change. It is safe for concurrent use.
type Plan struct {
	mutex   sync.Mutex
	records []Record
	asked   bool
}

// Add notes a change that would be made, and whether the directory server itself was asked and would make it.
func (p *Plan) Add(record Record, asked bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.records = append(p.records, record)
	p.asked = p.asked || asked
}

// Records returns the changes, in the order in which they would be made.
func (p *Plan) Records() []Record {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return slices.Clone(p.records)
}

// Asked reports whether the directory server itself was asked about any of the changes.
func (p *Plan) Asked() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.asked
}

// Moved reports whether one of the changes makes an entry, or gives one another name: what follows may build on it,
// and the directory server can't be asked about that.
func (p *Plan) Moved() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return slices.ContainsFunc(p.records, func(r Record) bool { return r.Change == ChangeAdd || r.Change == ChangeRename })
}

type planKey struct{}

// WithPlan returns a context in which a Directory changes nothing, but notes in the plan what it would.
func WithPlan(ctx context.Context, plan *Plan) context.Context {
	return context.WithValue(ctx, planKey{}, plan)
}

// PlanFrom returns the Plan of a context made by [WithPlan], nil where changes are meant.
func PlanFrom(ctx context.Context) *Plan {
	plan, _ := ctx.Value(planKey{}).(*Plan)
	return plan
}
