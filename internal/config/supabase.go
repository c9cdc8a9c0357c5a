package config

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
)

// ByAPI reports that the target is reached over the project's API: there is no URL
// of its database.
func (c *Config) ByAPI() bool {
	return c.Target.URL.IsZero() && (c.Supabase.URL != "" || !c.Supabase.Key.IsZero())
}

// ForAPI reports that the bridge is to write over the API, even if an administrator's
// URL leads to the database now.
func (c *Config) ForAPI() bool { return c.api || c.ByAPI() }

// APIKey returns the key of the API. One that stands in a file is read anew, so
// that a key can be changed under a running bridge.
func (c *Config) APIKey() (string, error) {
	if path := c.files["supabase.key"]; path != "" {
		return readSecret(path)
	}
	return c.Supabase.Key.Reveal(), nil
}

// requireAPI checks URL and key without asking the API.
func (c *Config) requireAPI() error {
	switch {
	case c.Supabase.URL == "":
		return fault.Errorf(fault.Config, urlHint, "there is a key of Supabase's API, but no address: set SUPABASE_URL")
	case c.Supabase.Key.IsZero():
		return fault.Errorf(fault.Config, "export SUPABASE_SECRET_KEY=sb_secret_…, or WALBRIDGE_TARGET_URL for a database connection",
			"there is an address of Supabase's API, but no key: set SUPABASE_SECRET_KEY or SUPABASE_SERVICE_ROLE_KEY")
	}
	if _, err := CheckProjectURL(c.Supabase.URL); err != nil {
		return err
	}
	return CheckAPIKey(c.Supabase.Key.Reveal())
}

const urlHint = "export SUPABASE_URL=https://<project>.supabase.co"

// CheckProjectURL reads a project's address. Plain HTTP is for the loopback
// interface only: it would show the key to whoever is on the way.
func CheckProjectURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fault.Errorf(fault.Config, urlHint, "SUPABASE_URL is no address of a project")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fault.Errorf(fault.Config, urlHint, "SUPABASE_URL has more than a scheme and a host")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fault.Errorf(fault.Config, urlHint, "SUPABASE_URL is plain http, which would show the key on its way to %s", u.Hostname())
	}
	return u, nil
}

// CheckAPIKey refuses keys that can't be the service's. It doesn't check
// signatures; the API does.
func CheckAPIKey(key string) error {
	const hint = "take the secret key (sb_secret_…) or the legacy service_role key: Project settings, API keys"
	switch {
	case key == "" || strings.ContainsAny(key, " \t\r\n"):
		return fault.Errorf(fault.Config, hint, "the API key is empty or has blanks in it")
	case strings.HasPrefix(key, "sb_publishable_"):
		return fault.Errorf(fault.Config, hint, "the API key is a publishable one, which may not write")
	case strings.HasPrefix(key, "sb_secret_"):
		return nil
	}
	claims, ok := readToken(key)
	switch {
	case !ok:
		return fault.Errorf(fault.Config, hint, "the API key is neither a secret key (sb_secret_…) nor a legacy one")
	case claims.Role != "service_role":
		return fault.Errorf(fault.Config, hint, "the API key is not that of service_role, and may not write")
	case claims.Exp != 0 && time.Now().Unix() > claims.Exp:
		return fault.Errorf(fault.Config, hint, "the API key expired on %s", time.Unix(claims.Exp, 0).UTC().Format(time.DateOnly))
	}
	return nil
}

// KeyKind says which of the two kinds a key is of.
func KeyKind(key string) string {
	if strings.HasPrefix(key, "sb_secret_") {
		return "a secret key (sb_secret_…)"
	}
	return "the legacy service_role key"
}

// KeyExpiry is when a legacy key ends, zero where it doesn't.
func KeyExpiry(key string) time.Time {
	if c, ok := readToken(key); ok && c.Exp != 0 {
		return time.Unix(c.Exp, 0)
	}
	return time.Time{}
}

// claims are those of a legacy key.
type claims struct {
	Role string `json:"role"`
	Exp  int64  `json:"exp"`
}

func readToken(key string) (c claims, ok bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return c, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, false
	}
	return c, json.Unmarshal(payload, &c) == nil
}
