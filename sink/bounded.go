package sink

// Bounded is implemented by sinks that know how much of a batch their target takes
// at once.
type Bounded interface {
	// Bound is the most row changes that the next batch should have.
	Bound() int
}
