package sink

// Request is work that an operator has asked the bridge for: a row of
// walbridge.requests. Whoever asks makes it, and may withdraw it while it is new;
// the bridge takes it from there.
type Request struct {
	ID   int64
	Kind string
	// Args is a JSON object, whose form goes with Kind.
	Args  string
	State RequestState
	// Progress is the bridge's own note of how far it has come, from which it
	// goes on after a restart.
	Progress string
	// Error says why the request has failed. It holds no values.
	Error string
}

// RequestState is where a request stands.
type RequestState string

// New and running requests are open; the others have ended.
const (
	RequestNew       RequestState = "new"
	RequestRunning   RequestState = "running"
	RequestDone      RequestState = "done"
	RequestFailed    RequestState = "failed"
	RequestWithdrawn RequestState = "withdrawn"
)
