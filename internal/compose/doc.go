// Package compose proves the compose stack: its tests bring docker-compose.yml up
// on a real Docker engine, with a real Django that writes, take its containers and
// networks away one by one, and compare both databases after each.
//
// "make test-compose" installs what they need and runs them; "go test ./..." leaves
// them out, because they take the machine's Docker engine, or start one, and make
// images: of PostgreSQL, Django and Prometheus from Debian's packages, of Go from what
// the machine has, and of the bridge from this tree. Nothing is pulled from a registry.
// The images of Debian and Go stay in the engine as a cache, and with them, where the
// tests start an engine of their own, its directory in /var/tmp; all else is removed.
package compose
