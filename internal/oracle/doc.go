// Package oracle tests the bridge against a model. From a seed it makes a random
// history of a small application: transactions of every kind that Django writes
// and some that it doesn't, on a real source whose triggers journal each change,
// with crashes and restarts of the bridge in between. Once the bridge has caught
// up, the model works out from the journal alone what every table, every held
// and kept row and every audit entry at the target must be, and the test
// compares.
//
//	go test ./internal/oracle                     a few seeds
//	go test ./internal/oracle -oracle.seed 42     one of them again
//	ORACLE_SEEDS=1000 go test -timeout 0 ./internal/oracle
//
// A seed fixes the variant (policies, replica identities, bounds of a batch) and
// the statements. It doesn't fix how the bridge's batches fall, nor how sessions
// that run at the same time interleave; a failure that depends on those may need
// several runs (-oracle.repeat).
//
// The model shares no code with package mapping: it evaluates the tables of
// spec_test.go, from which the mapping file is written, in the plainest way.
package oracle
