package pg

import (
	"crypto/tls"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TLS is how far a connection is protected.
type TLS uint8

const (
	// Plain may travel unencrypted.
	Plain TLS = iota
	// Encrypted is encrypted, to whoever answers.
	Encrypted
	// Verified is encrypted, and the certificate's authority is checked.
	Verified
	// VerifiedHost is Verified, and the certificate is the host's
	// (sslmode=verify-full).
	VerifiedHost
	// Local doesn't leave the machine.
	Local
)

func (t TLS) String() string {
	switch t {
	case Plain:
		return "plain text"
	case Encrypted:
		return "encrypted, not verified"
	case Verified:
		return "verified authority"
	case VerifiedHost:
		return "verified host"
	case Local:
		return "local"
	}
	return "unknown"
}

// protection reads what the driver made of sslmode, sslrootcert and the
// environment.
func protection(c *tls.Config) TLS {
	switch {
	case c == nil:
		return Plain
	case !c.InsecureSkipVerify:
		return VerifiedHost
	case c.VerifyPeerCertificate != nil:
		return Verified
	}
	return Encrypted
}

// checkTLS sets end.TLS to the weakest connection that cfg may make, and refuses
// or warns:
//
//	             plain text by choice    not verified    verify-full
//	source       warning                 warning         –
//	target       refused; in a private   warning         –
//	             network a warning
//
// sslmode=prefer, the driver's default, falls back to plain text when somebody
// in between says that the server has no TLS. Beyond private networks the target
// gets no such fallback.
func checkTLS(cfg *pgx.ConnConfig, end *Endpoint, opts Options) error {
	if opts.Side == Target && !private(end.Host) && !opts.InsecureTLS && cfg.TLSConfig != nil {
		cfg.Fallbacks = encryptedOnly(cfg.Fallbacks)
	}
	end.TLS = weakest(cfg)
	if end.TLS == Local || end.TLS == VerifiedHost || opts.InsecureTLS {
		return nil
	}
	if opts.Side == Target && end.TLS == Plain && !private(end.Host) {
		return refuse(
			"use sslmode=verify-full and sslrootcert=/path/ca.crt in the URL; WALBRIDGE_TARGET_INSECURE_TLS=true if the network is trusted",
			"target URL sends rows and the password to %s in plain text", end.Address())
	}
	end.Warnings = append(end.Warnings, Warning{
		fmt.Sprintf("the connection to the %s at %s is not protected against somebody in between (%s)", opts.Side, end.Address(), end.TLS),
		fmt.Sprintf("use sslmode=verify-full with sslrootcert=/path/ca.crt, or WALBRIDGE_%s_INSECURE_TLS=true if the network is trusted",
			map[Side]string{Source: "SOURCE", Target: "TARGET"}[opts.Side]),
	})
	return nil
}

func encryptedOnly(fallbacks []*pgconn.FallbackConfig) []*pgconn.FallbackConfig {
	var kept []*pgconn.FallbackConfig
	for _, f := range fallbacks {
		if f.TLSConfig != nil {
			kept = append(kept, f)
		}
	}
	return kept
}

// weakest looks at every address that the driver may try.
func weakest(cfg *pgx.ConnConfig) TLS {
	least := Local
	see := func(host string, port uint16, c *tls.Config) {
		if network, _ := pgconn.NetworkAddress(host, port); network == "unix" || Loopback(host) {
			return
		}
		least = min(least, protection(c))
	}
	see(cfg.Host, cfg.Port, cfg.TLSConfig)
	for _, f := range cfg.Fallbacks {
		see(f.Host, f.Port, f.TLSConfig)
	}
	return least
}
