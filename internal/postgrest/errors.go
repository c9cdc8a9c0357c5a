package postgrest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// errorBody is the body of PostgREST's errors; details and hint may be null.
type errorBody struct {
	Code    string  `json:"code"`
	Details *string `json:"details"`
	Hint    *string `json:"hint"`
	Message string  `json:"message"`
}

func problem(status int, code, message string) *response {
	body, _ := json.Marshal(errorBody{Code: code, Message: message})
	return respond(status, "application/json; charset=utf-8", body)
}

// tooLarge is what a gateway says of a body that is beyond its limit.
func tooLarge() *response {
	return respond(http.StatusRequestEntityTooLarge, "text/html", []byte("<html><body><h1>413 Request Entity Too Large</h1></body></html>"))
}

// failed makes the answer of an error on the way to the database or of its own.
func (q *query) failed(err error) *response {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &connect):
		return problem(http.StatusServiceUnavailable, "PGRST000", "Database connection error. Retrying the connection.")
	case errors.As(err, &server):
		optional := func(s string) *string {
			if s == "" {
				return nil
			}
			return &s
		}
		body, _ := json.Marshal(errorBody{Code: server.Code, Details: optional(server.Detail), Hint: optional(server.Hint), Message: server.Message})
		return respond(statusOf(server, q.who.role), "application/json; charset=utf-8", body)
	case errors.Is(err, context.DeadlineExceeded):
		return respond(http.StatusGatewayTimeout, "text/html", []byte("<html><body><h1>504 Gateway Time-out</h1></body></html>"))
	}
	return problem(http.StatusServiceUnavailable, "PGRST001", "Database client error. Retrying the connection.")
}

// statusOf is PostgREST's table of SQLSTATEs (PostgREST documentation, "Errors",
// "HTTP Status Codes"; pgErrorStatus in its Error.hs).
func statusOf(e *pgconn.PgError, role string) int {
	if rest, ok := strings.CutPrefix(e.Code, "PT"); ok {
		if n, err := strconv.Atoi(rest); err == nil && n >= 100 && n < 600 {
			return n
		}
		return http.StatusInternalServerError
	}
	switch e.Code {
	case "23503", "23505":
		return http.StatusConflict
	case "25006":
		return http.StatusMethodNotAllowed
	case "22023": // SET ROLE to one that isn't there
		if strings.HasPrefix(e.Message, "role ") && strings.HasSuffix(e.Message, "does not exist") {
			return http.StatusUnauthorized
		}
		return http.StatusBadRequest
	case "53400":
		return http.StatusInternalServerError
	case "21000":
		if strings.HasSuffix(e.Message, "requires a WHERE clause") {
			return http.StatusBadRequest
		}
		return http.StatusInternalServerError
	case "P0001":
		return http.StatusBadRequest
	case "42883", "42P01":
		return http.StatusNotFound
	case "42501":
		if role == "anon" {
			return http.StatusUnauthorized
		}
		return http.StatusForbidden
	}
	if len(e.Code) < 2 {
		return http.StatusBadRequest
	}
	switch e.Code[:2] {
	case "08", "53":
		return http.StatusServiceUnavailable
	case "0L", "0P", "28":
		return http.StatusForbidden
	case "09", "25", "2D", "38", "39", "3B", "40", "54", "55", "57", "58", "F0", "HV", "P0", "XX":
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}
