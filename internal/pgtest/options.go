package pgtest

// Option changes how a cluster is made.
type Option func(*config)

type config struct {
	bin        string
	encoding   string
	initdbArgs []string
	hba        []string
	settings   []setting
}

type setting struct{ key, value string }

// newConfig lays opts over the defaults, which are made for short-lived
// databases of tests: no fsync, little memory, room for slots.
func newConfig(opts []Option) *config {
	cfg := &config{
		encoding: "UTF8",
		settings: []setting{
			{"wal_level", "logical"},
			{"max_wal_senders", "20"},
			{"max_replication_slots", "20"},
			{"max_prepared_transactions", "10"},
			{"shared_buffers", "16MB"},
			{"fsync", "off"},
			{"full_page_writes", "off"},
			{"jit", "off"},
			{"log_line_prefix", "%m [%p] %q%u@%d "},
			// Files in the data directory go away with it; POSIX segments of a
			// server that was killed would stay in /dev/shm.
			{"dynamic_shared_memory_type", "mmap"},
		},
	}
	for _, o := range opts {
		o(cfg)
	}
	return cfg
}

// WithBin takes the server's programs from dir. Otherwise they come from the
// environment variable TEST_POSTGRES_BIN, else from the newest
// /usr/lib/postgresql/*/bin, else from what pg_config or the PATH names.
func WithBin(dir string) Option { return func(c *config) { c.bin = dir } }

// WithSetting sets a server setting.
func WithSetting(key, value string) Option {
	return func(c *config) { c.settings = append(c.settings, setting{key, value}) }
}

// WithFsync makes the server durable, for measurements and for crash tests of
// the operating system.
func WithFsync() Option {
	return func(c *config) {
		c.settings = append(c.settings, setting{"fsync", "on"}, setting{"full_page_writes", "on"})
	}
}

// WithEncoding sets the encoding of the template databases. The default is UTF8.
func WithEncoding(name string) Option { return func(c *config) { c.encoding = name } }

// WithInitdbArgs passes further arguments to initdb.
func WithInitdbArgs(args ...string) Option {
	return func(c *config) { c.initdbArgs = append(c.initdbArgs, args...) }
}

// WithHBA puts lines before the rules that trust every loopback connection.
func WithHBA(lines ...string) Option {
	return func(c *config) { c.hba = append(c.hba, lines...) }
}
