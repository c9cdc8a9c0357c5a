package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
)

// SchemaHint is what mends a target that lacks something.
const SchemaHint = "run in the project's SQL editor what this prints, and try again: walbridge schema target"

const keyHint = "take the secret key (sb_secret_…) or the legacy service_role key of this project (Project settings, API keys): SUPABASE_SECRET_KEY, or a file named by SUPABASE_SECRET_KEY_FILE, which is read again by itself"

// errKey marks answers that another key would change.
var errKey = errors.New("the API key is refused")

// errLarge marks requests that are too large for the gateway.
var errLarge = errors.New("the request is too large for the gateway")

func tooLarge(err error) bool { return errors.Is(err, errLarge) }

// answer is one that is no success.
type answer struct {
	function   string
	status     int
	retryAfter time.Duration
	body       []byte
	host       string
	final      bool
}

// err makes the error of an answer (PostgREST documentation, "Errors"; Supabase,
// "HTTP status codes"). Nothing of its texts is kept, because a database's quote
// values: the code says what it is.
func (a *answer) err() error {
	var body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(a.body, &body) // a gateway's may be a page of HTML
	said := fmt.Sprintf("the API at %s answers %d", a.host, a.status)
	if isCode(body.Code) {
		said += " (" + body.Code + ")"
	}
	plain := func(err error) error { return &callError{text: said, err: err} }
	switch body.Code {
	case "PGRST202":
		return fault.Wrap(fault.Stop, SchemaHint, plain(errors.New("it has no function public.walbridge"+strings.TrimPrefix(a.function, writing)+"; if that was made just now, run: NOTIFY pgrst, 'reload schema'")))
	case "PGRST106":
		return fault.Wrap(fault.Stop, "expose the schema public: Project settings, Data API, Exposed schemas", plain(errors.New("the schema public is not exposed")))
	case "PGRST303":
		return fault.Wrap(fault.Stop, keyHint, plain(fmt.Errorf("%w: it has expired", errKey)))
	case "42501":
		return fault.Wrap(fault.Stop, keyHint+"; or run again what walbridge schema target prints, for the right to call the function",
			plain(fmt.Errorf("%w: its role may not call the function", errKey)))
	case "57014":
		return fault.Wrap(fault.Stop, directHint, &callError{text: said, err: databaseError("57014")})
	}
	switch {
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return fault.Wrap(fault.Stop, keyHint, plain(errKey))
	case a.status == http.StatusRequestEntityTooLarge:
		return fault.Wrap(fault.Stop, directHint, plain(errLarge))
	case a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly:
		return fault.Wrap(fault.Retry, "", plain(nil))
	case a.status == 540:
		return fault.Wrap(fault.Stop, "wake it up in the dashboard (Restore project)", plain(errors.New("the project is paused")))
	case len(body.Code) == 5 && isCode(body.Code):
		return &callError{text: said, err: databaseError(body.Code), unknown: a.final && strings.HasPrefix(body.Code, "57P")}
	case strings.HasPrefix(body.Code, "PGRST00"):
		return fault.Wrap(fault.Retry, "", &callError{text: said, unknown: a.final && body.Code != "PGRST003"})
	case a.status >= 500:
		// The gateway gave up; the database may go on.
		return fault.Wrap(fault.Retry, "", &callError{text: said, unknown: a.final})
	case a.status == http.StatusOK:
		return fault.Wrap(fault.Retry, "", &callError{text: said, err: errors.New("what comes with it is no JSON"), unknown: a.final})
	case a.status >= 300 && a.status < 400:
		return fault.Wrap(fault.Stop, "check SUPABASE_URL", plain(errors.New("it sends us elsewhere, and the key goes nowhere else")))
	case a.status == http.StatusNotFound:
		return fault.Wrap(fault.Stop, "check SUPABASE_URL: the dashboard shows it under Project settings, Data API", plain(errors.New("there is no Supabase API")))
	}
	return fault.Wrap(fault.Stop, "", plain(nil))
}

const directHint = "use a database connection for what is larger than the API allows: WALBRIDGE_TARGET_URL (docs/operations.md)"

// isCode keeps everything but codes out of messages.
func isCode(s string) bool {
	if s == "" || len(s) > 8 {
		return false
	}
	for _, c := range s {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
