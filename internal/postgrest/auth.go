package postgrest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// identity is whom a request runs as.
type identity struct {
	role string
	// claims is the token's payload, as request.jwt.claims holds it.
	claims string
}

// Token signs claims (HS256). Without an exp it never expires.
func (s *Server) Token(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err) // claims come from code
	}
	head := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(payload)
	return head + "." + encode(sign(s.opts.Secret, head))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func sign(secret, text string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func digest(what, secret string) string { return hex.EncodeToString(sign(secret, what))[:32] }

// authenticate is the gateway's check of the key and PostgREST's of the token.
func (s *Server) authenticate(r *http.Request) (identity, *response) {
	key := r.Header.Get("apikey")
	if key == "" {
		key = r.URL.Query().Get("apikey")
	}
	if key != "" && s.isRevoked(key) {
		return identity{}, unknownKey()
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch key {
	case "":
		return identity{}, gateway("No API key found in request", "No `apikey` request header or url param was found.")
	case s.keys.Secret, s.keys.Publishable:
		role := "anon"
		if key == s.keys.Secret {
			role = "service_role"
			if strings.HasPrefix(r.UserAgent(), "Mozilla/") {
				return identity{}, gateway("Forbidden use of secret API key in browser", "Secret API keys can only be used in a protected environment and should never be used in a browser. Delete this secret API key immediately.")
			}
		}
		if !bearer { // the gateway makes a token of its own
			return identity{role: role, claims: `{"role":"` + role + `"}`}, nil
		}
	case s.keys.Anon, s.keys.ServiceRole:
	default:
		return identity{}, unknownKey()
	}
	if !bearer {
		return identity{role: "anon", claims: `{"role":"anon"}`}, nil
	}
	return s.verify(token)
}

func unknownKey() *response {
	return gateway("Invalid API key", "Double check your Supabase `anon` or `service_role` API key.")
}

func gateway(message, hint string) *response {
	body, _ := json.Marshal(map[string]string{"message": message, "hint": hint})
	return respond(http.StatusUnauthorized, "application/json", body)
}

// verify checks a token as PostgREST does.
func (s *Server) verify(token string) (identity, *response) {
	refuse := func(code, message string) (identity, *response) {
		answer := problem(http.StatusUnauthorized, code, message)
		answer.header.Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+message+`"`)
		return identity{}, answer
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return refuse("PGRST301", "Expected 3 parts in JWT; got "+string(rune('0'+min(len(parts), 9))))
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, sign(s.opts.Secret, parts[0]+"."+parts[1])) {
		return refuse("PGRST301", "No suitable key or wrong key type")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return refuse("PGRST301", "JWT cryptographic operation failed")
	}
	var claims struct {
		Role string `json:"role"`
		Exp  *int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return refuse("PGRST303", "Parsing claims failed")
	}
	// PostgREST allows for clocks that are 30 s apart.
	if claims.Exp != nil && time.Now().Unix() > *claims.Exp+30 {
		return refuse("PGRST303", "JWT expired")
	}
	if claims.Role == "" {
		claims.Role = "anon"
	}
	return identity{role: claims.Role, claims: string(payload)}, nil
}
