package directory

import "context"

// Check is one thing that must hold before requests can be served.
type Check struct {
	Name string
	// Run returns why it does not hold, for the log.
	Run func(ctx context.Context) error
	// Remedy says, fit for anybody's eyes, what is wrong where it does not, and what to do.
	Remedy string
}
