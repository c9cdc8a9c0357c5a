// Package demo shows the bridge at work: NioChat's source schema, a writer that
// changes it as the application does, and a command that runs both on throwaway
// clusters with the bridge between them, kills the bridge in the middle and
// compares the two sides at the end.
package demo

import _ "embed"

// SourceSchema is the SQL that makes the tables of NioChat's database that
// matter to the bridge, in an empty database.
//
//go:embed niochat.sql
var SourceSchema string
