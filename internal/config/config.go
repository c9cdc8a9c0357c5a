// Package config holds the bridge's settings: what they are, what they default
// to, and how flags, the environment and the configuration file give them. The
// struct Config is the only list of them; its tags make the environment names,
// the file's keys and the reference in docs/configuration.md.
package config

import "time"

// Config is every setting outside the mapping. Keys of the file are the yaml
// tags; a setting's environment name is WALBRIDGE_ and its key in capitals with
// underscores, and env lists names that are looked at after that one.
type Config struct {
	Name     string   `yaml:"name" help:"Name of the bridge: of its slot and publication at the source, and of its checkpoint row at the target. Two bridges on one database need two names. Lower-case letters, digits and underscores, at most 63."`
	Source   Source   `yaml:"source"`
	Target   Target   `yaml:"target"`
	Supabase Supabase `yaml:"supabase"`
	Listen   string   `yaml:"listen" help:"Address of the status page, the probes and the metrics, or off. They show no row data. An address that other machines reach takes expose as well."`
	Expose   bool     `yaml:"expose" help:"Says that the network is trusted, so that listen may be an address beyond this machine. In a container it has to be, as 0.0.0.0:8787: there the container's network decides who reaches it."`
	Prepare  string   `yaml:"prepare" oneof:"auto manual" help:"Whether run creates what is missing (publication, slot, target tables, private schema), or says what is missing and stops."`
	OnDelete string   `yaml:"on_delete" oneof:"keep delete" optional:"true" help:"What a deletion at the source does to the row at the target, over what the mapping says for each table."`
	Audit    Audit    `yaml:"audit"`
	Batch    Batch    `yaml:"batch"`
	Queue    Queue    `yaml:"queue"`
	Copy     Copy     `yaml:"copy"`
	Lease    Duration `yaml:"lease" min:"1s" help:"How long a silent instance keeps its claim before a standby takes over."`
	Reject   Reject   `yaml:"reject"`
	Hash     Hash     `yaml:"hash"`
	Memory   Memory   `yaml:"memory"`
	Log      Log      `yaml:"log"`

	// Mapping is the file that the tables come from.
	Mapping Mapping `yaml:"-"`
	// Warnings are sentences about the settings that the operator should see.
	Warnings []string `yaml:"-"`
	// from says, for each setting that was given, where: the name of the
	// variable, or the file's place.
	from map[string]string `yaml:"-"`
	// api says that the target's URL is only an administrator's.
	api bool `yaml:"-"`
	// files are the secrets that stand in files.
	files map[string]string `yaml:"-"`
}

// Source is the application's database.
type Source struct {
	URL           Secret   `yaml:"url" env:"DATABASE_URL" help:"Source database: Django's own, by a direct connection (poolers don't pass replication on). The role needs REPLICATION, and SELECT on the tables that the mapping follows; for run to make the publication it must own the mapped ones (see roles.md)."`
	Heartbeat     Duration `yaml:"heartbeat" min:"1s" help:"How often a small message is written into the source's WAL. It lets the source release WAL while the mapped tables are quiet, and proves that it wasn't restored from an older copy."`
	WarnRetained  Size     `yaml:"warn_retained_wal" min:"0" help:"How much WAL the source may keep for the bridge before the slot's level is warning, in the log, the status and the metrics. 0 switches it off."`
	AlarmRetained Size     `yaml:"alarm_retained_wal" min:"0" help:"How much WAL the source may keep for the bridge before the slot's level is alarm. 0 switches it off."`
	MaxRetained   Size     `yaml:"max_retained_wal" min:"0" help:"How much WAL the source may keep for the bridge at all. Beyond it the bridge drops its slot rather than fill the application's disk, and stays blocked until everything is copied again. It is looked at while the bridge runs, also right after a start; max_slot_wal_keep_size at the source works without it. 0 sets no limit."`
	DecodingWork  Size     `yaml:"decoding_work_mem" min:"0" help:"How much memory the source's server may take for the transactions that it puts together for the bridge, before it writes them to its disk (logical_decoding_work_mem of that one connection). 0 leaves what the server has, 64 MB as a rule. More saves it disk traffic in large transactions; before PostgreSQL 17 one with hundreds of thousands of savepoints that doesn't fit takes hours."`
	Failover      bool     `yaml:"failover" help:"Lets the source's standbys keep a copy of the slot, so that the bridge goes on after one of them is promoted (PostgreSQL 17 or later, see operations.md)."`
	InsecureTLS   bool     `yaml:"insecure_tls" help:"Says that the network to the source is trusted, so that a connection without sslmode=verify-full is not warned about."`
}

// Target is the Supabase database.
type Target struct {
	URL         Secret `yaml:"url" env:"SUPABASE_DB_URL" help:"Target database: Supabase's direct connection, or its session pooler (port 5432)."`
	InsecureTLS bool   `yaml:"insecure_tls" help:"Says that the network to the target is trusted, so that a connection without sslmode=verify-full is neither warned about nor, in plain text, refused."`
}

// Supabase is access by the project's API, where there is no URL of its database.
type Supabase struct {
	URL     string `yaml:"url" env:"SUPABASE_URL" help:"Address of the project, https://<project>.supabase.co. Without target.url the bridge writes through its API (PostgREST)."`
	Key     Secret `yaml:"key" env:"SUPABASE_SERVICE_ROLE_KEY SUPABASE_SECRET_KEY" help:"Key for the API: a secret key (sb_secret_…) or the legacy service_role key. In a file it is read again when the API refuses it, so that it can be changed under a running bridge."`
	MaxBody Size   `yaml:"max_body" min:"64KiB" help:"Most bytes of one request to the API. A gateway that refuses a request for its size makes the bridge send smaller ones by itself."`
}

// Audit says what becomes an audit entry.
type Audit struct {
	Enabled   bool   `yaml:"enabled" help:"Whether changes are written to the audit table."`
	Values    string `yaml:"values" oneof:"changed all none" help:"Which values entries carry: those that an update changed, all of them, or none."`
	Unchanged bool   `yaml:"unchanged" help:"Whether an update that changes no mapped column makes an entry, too."`
	MaxValue  Size   `yaml:"max_value" min:"64" help:"Size above which an entry carries a value's size and hash in place of the value."`
	Chain     bool   `yaml:"chain" help:"Whether each entry carries a hash over itself and over the one before it, so that verify --audit finds an entry that somebody has altered, put in or taken out (see mapping.md). Turning it on needs an index on the audit table, which walbridge schema target makes; entries of before stay without."`
}

// Batch bounds one target transaction.
type Batch struct {
	Rows  int  `yaml:"rows" min:"1" help:"Most row changes in one target transaction. A source transaction beyond it is written in slices of one target transaction."`
	Bytes Size `yaml:"bytes" min:"64KiB" help:"Most bytes of row changes in one slice."`
}

// Queue bounds what has been received and not yet applied.
type Queue struct {
	Bytes Size `yaml:"bytes" min:"64KiB" help:"Most bytes that wait between the source and the target. When they are full, the bridge stops reading."`
}

// Copy is the first copy.
type Copy struct {
	Rows     int    `yaml:"rows" min:"1" help:"Rows that one piece of the first copy reads, in a short transaction of its own."`
	Realtime string `yaml:"realtime" oneof:"pause pause_all publish" help:"Whether Supabase's Realtime carries a first copy. pause takes the mapped tables out of the publication supabase_realtime until it is done, and puts back those that were in it; pause_all does so for a resync, too, which writes only what differs."`
}

// Reject bounds rows that the target refuses.
type Reject struct {
	Limit int `yaml:"limit" min:"0" help:"How many rows that the target refuses may be set aside as held before the bridge stops for a person. 0 stops at the first."`
}

// Hash is how columns are hashed.
type Hash struct {
	Key Secret `yaml:"key" help:"Key of the columns that the mapping hashes: a random text of at least 16 characters, best in a file of its own (WALBRIDGE_HASH_KEY_FILE). With another key all hashes are others, so a changed one is refused until the tables have been copied again; without it nobody can tell a hashed value."`
}

// Memory is what the Go runtime aims at.
type Memory struct {
	Limit Size `yaml:"limit" min:"0" help:"Memory that the runtime tries to stay under while streaming. GOMEMLIMIT goes before it; 0 sets no limit."`
}

// Log is how the process logs.
type Log struct {
	Level  string `yaml:"level" oneof:"debug info warn error" help:"Least severe level that is logged."`
	Format string `yaml:"format" oneof:"auto text json" help:"auto is text on a terminal and JSON elsewhere."`
}

// Mapping is a file with the sections tables, audit_log and dashboard, unread: package
// mapping parses it.
type Mapping struct {
	// Name is the file's name for messages.
	Name string
	Data []byte
}

// Default returns the settings of a bridge that was given none.
func Default() *Config {
	return &Config{
		Name:     "walbridge",
		Supabase: Supabase{MaxBody: 1 << 20},
		Source:   Source{Heartbeat: Duration(10 * time.Second), WarnRetained: 1 << 30, AlarmRetained: 10 << 30},
		Listen:   "127.0.0.1:8787",
		Prepare:  "auto",
		Audit:    Audit{Enabled: true, Values: "changed", MaxValue: 8 << 10},
		Batch:    Batch{Rows: 10_000, Bytes: 4 << 20},
		Queue:    Queue{Bytes: 4 << 20},
		Copy:     Copy{Rows: 10_000, Realtime: "pause"},
		Lease:    Duration(4 * time.Second),
		Reject:   Reject{Limit: 1000},
		Memory:   Memory{Limit: 48 << 20},
		Log:      Log{Level: "info", Format: "auto"},
	}
}
