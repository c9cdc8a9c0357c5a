package replicator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

// Catalogs is what the catalogs say of a publication and its tables, by the
// versions of their rows: each ALTER PUBLICATION makes new ones, and so does one
// that takes the first back. Comparing what a publication holds is not enough,
// because the stream lacks what was written between the two.
//
// The versions are object ids and xmins. VACUUM keeps both, freezing only sets a
// bit beside xmin (PostgreSQL source, heapam.c, heap_prepare_freeze_tuple).
type Catalogs struct {
	// rows are "name version" of the publication, of the schemas in it, and of
	// each table; sorted.
	rows []string
	// snap is the snapshot that they were read in, ceiling an xid that was given
	// out before it was taken.
	snap    snapshot
	ceiling uint64
}

// ID is a digest of the versions: two that are equal say that nothing was altered
// between the two snapshots.
func (c Catalogs) ID() string {
	sum := sha256.Sum256([]byte(strings.Join(c.rows, "\n")))
	return hex.EncodeToString(sum[:16])
}

// settled reports whether the snapshot shows all that was committed before the
// ceiling was given out.
func (c Catalogs) settled(ceiling uint64) bool { return c.snap.xmin >= ceiling }

// differences names what has another version in now.
func (c Catalogs) differences(now Catalogs) []string {
	versions := func(c Catalogs) map[string]string {
		m := make(map[string]string, len(c.rows))
		for _, row := range c.rows {
			i := strings.LastIndexByte(row, ' ')
			m[row[:i]] = row[i:]
		}
		return m
	}
	then, list := versions(c), []string(nil)
	for name, version := range versions(now) {
		if then[name] != version {
			list = append(list, name)
		}
		delete(then, name)
	}
	for name := range then {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// versionsSQL is what ReadCatalogs asks, in one statement and so in one snapshot.
func versionsSQL(conn *pgx.Conn) string {
	inSchema := `
		UNION ALL
		SELECT 'schema ' || pn.pnnspid, pn.oid || '.' || pn.xmin FROM pg_catalog.pg_publication_namespace pn JOIN p ON p.oid = pn.pnpubid`
	if strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "14") {
		inSchema = "" // came with 15
	}
	return `
		WITH p AS (SELECT oid, xmin FROM pg_catalog.pg_publication WHERE pubname = $1), v AS (
		SELECT 'the publication' AS name, p.oid || '.' || p.xmin AS version FROM p` + inSchema + `
		UNION ALL
		SELECT 'table ' || w.schema || '.' || w.name, coalesce(c.oid, 0) || '.' || coalesce(pr.oid || '.' || pr.xmin, '')
		FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) AS w(schema, name)
		LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
		LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
		LEFT JOIN p ON true LEFT JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid)
		SELECT pg_catalog.pg_current_snapshot()::text, (SELECT pg_catalog.array_agg(v.name || ' ' || v.version) FROM v)`
}

// ReadCatalogs reads the versions for the publication called name and the tables
// that it has to hold. It changes nothing.
func ReadCatalogs(ctx context.Context, conn *pgx.Conn, name string, tables []TableName) (Catalogs, error) {
	batch := &pgx.Batch{}
	return readCatalogs(ctx, conn, batch, new(Catalogs), name, tables)
}

// CheckUnaltered returns a *PublicationAlteredError unless the publication is the
// one that it was then, which is what ReadPublished returned when the slot was made.
// what has been altered is for the error, if it is known.
func CheckUnaltered(ctx context.Context, conn *pgx.Conn, name string, m *mapping.Mapping, then string, what []string) error {
	now, err := ReadCatalogs(ctx, conn, name, publishedOf(m))
	if err == nil && now.ID() != catalogsOf(then) {
		err = altered(name, what)
	}
	return err
}

// readSettling reads them with a ceiling, which costs the server an xid.
func readSettling(ctx context.Context, conn *pgx.Conn, name string, tables []TableName) (Catalogs, error) {
	var c Catalogs
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	// In a statement before the one whose snapshot counts: what is in the WAL by
	// now has a lower one.
	batch.Queue("SELECT pg_catalog.pg_current_xact_id()::text::int8").QueryRow(func(row pgx.Row) error { return row.Scan(&c.ceiling) })
	return readCatalogs(ctx, conn, batch, &c, name, tables)
}

func readCatalogs(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, c *Catalogs, name string, tables []TableName) (Catalogs, error) {
	var schemas, names []string
	for _, t := range tables {
		schemas, names = append(schemas, t.Schema), append(names, t.Name)
	}
	var text string
	begun := batch.Len() > 0
	batch.Queue(versionsSQL(conn), name, schemas, names).QueryRow(func(row pgx.Row) error { return row.Scan(&text, &c.rows) })
	if begun {
		batch.Queue("COMMIT")
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return Catalogs{}, fmt.Errorf("read the publication's catalogs: %w", pg.Safe(err))
	}
	slices.Sort(c.rows)
	var err error
	c.snap, err = parseSnapshot(text)
	return *c, err
}

// PublicationAlteredError says that the publication, or a table in it, isn't the
// one that the slot began with, even if it looks the same again.
type PublicationAlteredError struct {
	Publication string
	// What has been altered, if that is known.
	What []string
}

func (e *PublicationAlteredError) Error() string {
	what := ""
	if len(e.What) > 0 {
		what = " (" + strings.Join(e.What, ", ") + ")"
	}
	return fmt.Sprintf("publication %s was altered, dropped or made anew since the stream began%s: changes may be missing from the stream, even if it has been altered back", e.Publication, what)
}

func altered(name string, what []string) error {
	other := &PublicationAlteredError{Publication: name, What: what}
	return outOfStep(&OutOfStepError{Reason: other.Error(), Cause: other})
}

// mark is a heartbeat that waits for a look at the catalogs that shows all that
// was committed before it.
type mark struct {
	token   string
	lsn     cdc.LSN
	ceiling uint64
}

// look reads the catalogs after a heartbeat has been committed, and fails when
// they have other versions than when the stream began.
//
// A commit is in the WAL before other sessions see what it did, with a waiting
// synchronous standby for as long as that waits. So a look vouches for a
// heartbeat only if it shows every transaction that may be before it in the WAL:
// their xids are below the ceiling, and none of those is still running. A
// transaction that stays open for long holds that up, and keeps the source from
// removing WAL all the same.
func (p *Pulse) look(ctx context.Context, b Beat) error {
	if p.cfg.Catalogs == "" {
		return nil
	}
	now, err := readSettling(ctx, p.conn, p.cfg.Publication, p.cfg.Tables)
	if err != nil {
		return err
	}
	if now.ID() != p.cfg.Catalogs {
		var what []string
		if p.seen != nil {
			what = p.seen.differences(now)
		}
		return altered(p.cfg.Publication, what)
	}
	p.seen = &now
	p.marks = append(p.marks, mark{token: b.Token, lsn: b.LSN, ceiling: now.ceiling})
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.marks) > 0 && now.settled(p.marks[0].ceiling) {
		p.vouchedToken, p.vouchedLSN = p.marks[0].token, p.marks[0].lsn
		p.marks = p.marks[1:]
	}
	return nil
}

// Vouches reports whether the publication is known to be unaltered up to the
// commit of the heartbeat with token. What lies behind that must not be
// confirmed: changes may be missing in it.
func (p *Pulse) Vouches(token string, commit cdc.LSN) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Catalogs == "" || token == p.vouchedToken || commit <= p.vouchedLSN
}
