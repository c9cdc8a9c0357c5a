package fault

// classOfCode sorts a SQLSTATE (PostgreSQL documentation, appendix A).
func classOfCode(code string) Class {
	switch code {
	case "55P03", // lock_not_available: another session holds a row or a table
		"55006", // object_in_use: a killed instance's walsender still has the slot
		"57P01", // admin_shutdown
		"57P02", // crash_shutdown
		"57P03", // cannot_connect_now
		"57P05", // idle_session_timeout: a new session is as good
		"57014", // query_canceled: a statement timeout, see TooLarge
		"25006", // read_only_sql_transaction: connected to a standby during a failover
		"25P03", // idle_in_transaction_session_timeout
		"25P04": // transaction_timeout
		return Retry
	}
	if len(code) < 2 || code == "08P01" { // a protocol violation is a mistake of ours
		return Stop
	}
	switch code[:2] {
	case "08", // connection exception
		"40", // serialization failure, deadlock
		"53": // out of disk, memory or connections: somebody frees some
		return Retry
	case "22", // data exception
		"23": // integrity constraint violation
		return Reject
	}
	return Stop
}

// hintOfCode says what mends a SQLSTATE wherever it comes from. Whoever knows
// more wraps the error with a hint of its own.
func hintOfCode(code string) string {
	switch code {
	case "28P01":
		return "check the user and the password in the URL; special characters of a password must be percent-encoded"
	case "28000":
		return "check that the role exists, may log in, and that pg_hba.conf lets it in from here; a stream needs: ALTER ROLE <role> REPLICATION"
	case "3D000":
		return "check the database's name at the end of the URL"
	case "3F000":
		return "check the schema's name in the mapping file"
	case "42501":
		return "grant the right to the role in the URL, or use the role that owns the table"
	case "42P01", "42703":
		return "compare the mapping file with the database: a table or a column is missing or has another name"
	case "53100":
		return "free disk space on the database server; the bridge goes on by itself"
	case "53300":
		return "raise max_connections or end other sessions; the bridge goes on by itself"
	case "53400":
		return "raise max_replication_slots and max_wal_senders at the source and restart it"
	case "25006":
		return "the server is a standby or read-only; the URL must lead to the primary"
	case "55006":
		return "another client holds the slot or the object; end it, or wait until it is gone"
	case "42P05", "26000":
		return "the URL leads to a transaction pooler; use the direct host or the session pooler (port 5432)"
	}
	return ""
}
