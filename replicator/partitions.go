package replicator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

// Partitions of a table that is mapped as a whole come and go without a change in
// the stream: one that is attached brings rows, one that is detached or dropped
// takes them away, and a TRUNCATE of one alone isn't published under the table's
// name (PostgreSQL manual, CREATE PUBLICATION, publish_via_partition_root). So the
// partitions are kept in mind with the checkpoint, by what changes then.

// partition is a partition that holds rows of a mapped table.
type partition struct {
	root, name string // quoted
	oid        uint32
	// bound is what PostgreSQL holds of its rows: with it, a statement on the root
	// reads no other partition, and needs no right on this one.
	bound string
	// links are the versions of the catalog rows that attach it to the root, file
	// is that of its rows.
	links, file string
	// newest is the xid of the newest of the links, command its place in that
	// transaction.
	newest  string
	command int64
	// attached and written are the ages, in transactions, of what attached it or
	// made it, and of its row in pg_class.
	attached, written int64
}

// id tells whether a partition is the one that it was, with the rows that the
// stream tells of.
func (p *partition) id() string { return fmt.Sprintf("%d/%s/%s", p.oid, p.links, p.file) }

// sameTable reports whether a stored id is of this partition, attached as now.
func (p *partition) sameTable(id string) bool {
	return strings.HasPrefix(id, fmt.Sprintf("%d/%s/", p.oid, p.links))
}

func readPartitions(ctx context.Context, conn *pgx.Conn, m *mapping.Mapping) ([]*partition, error) {
	var roots []string
	for _, s := range m.Sources {
		if s.Partitioned {
			roots = append(roots, pg.Quote(s.Schema, s.Name))
		}
	}
	if roots == nil {
		return nil, nil
	}
	// Only the catalog's own columns of pg_attribute keep their versions: those of a
	// table's are written again by ATTACH.
	rows, err := conn.Query(ctx, `
		SELECT r.name, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.oid,
		       coalesce(pg_catalog.pg_get_partition_constraintdef(c.oid), 'true'), h.links, c.relfilenode::text, h.newest, h.command,
		       least(h.age, pg_catalog.age(a.xmin)), pg_catalog.age(c.xmin)
		FROM pg_catalog.unnest($1::text[]) AS r(name)
		CROSS JOIN pg_catalog.pg_partition_tree(pg_catalog.to_regclass(r.name)) AS leaf
		JOIN pg_catalog.pg_class c ON c.oid = leaf.relid AND leaf.isleaf AND c.relkind <> 'p'
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'ctid'
		CROSS JOIN LATERAL (
		  SELECT pg_catalog.string_agg(i.xmin::text, '.' ORDER BY i.inhrelid) AS links, min(pg_catalog.age(i.xmin)) AS age,
		         (pg_catalog.array_agg(i.xmin::text ORDER BY pg_catalog.age(i.xmin)))[1] AS newest,
		         (pg_catalog.array_agg(i.cmin::text::int8 ORDER BY pg_catalog.age(i.xmin)))[1] AS command
		  FROM pg_catalog.pg_partition_ancestors(c.oid) AS up
		  JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.relid
		  WHERE up.relid NOT IN (SELECT above.relid FROM pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass(r.name)) AS above)) AS h
		ORDER BY 1, 2`, roots)
	if err != nil {
		return nil, fmt.Errorf("read the partitions: %w", pg.Safe(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*partition, error) {
		p := new(partition)
		return p, row.Scan(&p.root, &p.name, &p.oid, &p.bound, &p.links, &p.file, &p.newest, &p.command, &p.attached, &p.written)
	})
	if err != nil {
		return nil, fmt.Errorf("read the partitions: %w", pg.Safe(err))
	}
	return list, nil
}

// published is what the checkpoint keeps of the publication and of its tables:
// Catalogs.ID, and behind it the ids of the partitions.
func published(catalogs string, list []*partition) string {
	for _, p := range list {
		catalogs += " " + p.id()
	}
	return catalogs
}

// catalogsOf is the part of published that is Catalogs.ID.
func catalogsOf(published string) string {
	id, _, _ := strings.Cut(published, " ")
	return id
}

// ReadPublished reads what the checkpoint is to keep of the publication.
func ReadPublished(ctx context.Context, conn *pgx.Conn, name string, m *mapping.Mapping) (string, error) {
	catalogs, err := ReadCatalogs(ctx, conn, name, publishedOf(m))
	if err != nil {
		return "", err
	}
	list, err := readPartitions(ctx, conn, m)
	return published(catalogs.ID(), list), err
}

// PartitionsError says that rows have come or gone with partitions.
type PartitionsError struct{ Reasons []string }

func (e *PartitionsError) Error() string {
	return "rows of a partitioned table came or went without a change in the stream: " + strings.Join(e.Reasons, "; ")
}

// CheckPartitions returns a *PartitionsError when partitions came with rows, or are
// gone, or were emptied by themselves, since then, which is what ReadPublished
// returned. A partition that was made in its place, or attached without rows, is
// fine: now is then with those.
func CheckPartitions(ctx context.Context, conn *pgx.Conn, m *mapping.Mapping, then string) (now string, err error) {
	list, err := readPartitions(ctx, conn, m)
	if err != nil {
		return "", err
	}
	_, ids, _ := strings.Cut(then, " ")
	known := strings.Fields(ids)
	var reasons []string
	for _, p := range list {
		i := slices.Index(known, p.id())
		if i < 0 {
			i = slices.IndexFunc(known, p.sameTable)
			reason, err := p.change(ctx, conn, i >= 0)
			if err != nil {
				return "", err
			}
			if reason != "" {
				reasons = append(reasons, reason)
			}
		}
		if i >= 0 {
			known = slices.Delete(known, i, i+1)
		}
	}
	for _, id := range known {
		reason, err := gone(ctx, conn, id)
		if err != nil {
			return "", err
		}
		reasons = append(reasons, reason)
	}
	if reasons != nil {
		e := &PartitionsError{Reasons: reasons}
		return "", outOfStep(&OutOfStepError{Reason: e.Error(), SameStream: true, Cause: e})
	}
	return published(catalogsOf(then), list), nil
}

// change says what is wrong with a partition that isn't as it was, or nothing.
func (p *partition) change(ctx context.Context, conn *pgx.Conn, known bool) (reason string, err error) {
	if known {
		// VACUUM FULL, CLUSTER and another tablespace leave rows as they are, in a
		// file of its own; behind TRUNCATE all are younger.
		older, err := p.any(ctx, conn, "pg_catalog.age(s.xmin) > $1", p.written)
		if older || err != nil {
			return "", err
		}
		return fmt.Sprintf("partition %s of %s was emptied by a TRUNCATE of its own, or rewritten", p.name, p.root), nil
	}
	// What the transaction that attached it wrote behind that is in the stream.
	brought, err := p.any(ctx, conn, "pg_catalog.age(s.xmin) >= $1 AND NOT (s.xmin::text = $2 AND s.cmin::text::int8 > $3)",
		p.attached, p.newest, p.command)
	if !brought || err != nil {
		return "", err
	}
	return fmt.Sprintf("partition %s was attached to %s with rows", p.name, p.root), nil
}

// any reports whether the partition has a row for which the condition holds.
func (p *partition) any(ctx context.Context, conn *pgx.Conn, condition string, args ...any) (found bool, err error) {
	sql := fmt.Sprintf("SELECT EXISTS (SELECT FROM %s AS s WHERE s.tableoid = %d AND (%s) AND %s)", p.root, p.oid, p.bound, condition)
	if err := conn.QueryRow(ctx, sql, args...).Scan(&found); err != nil {
		return false, fmt.Errorf("look into partition %s: %w", p.name, pg.Safe(err))
	}
	return found, nil
}

// gone says what became of a partition that a mapped table had.
func gone(ctx context.Context, conn *pgx.Conn, id string) (reason string, err error) {
	oid, _, _ := strings.Cut(id, "/")
	var name string
	if err := conn.QueryRow(ctx, "SELECT $1::pg_catalog.oid::pg_catalog.regclass::pg_catalog.text", oid).Scan(&name); err != nil {
		return "", fmt.Errorf("look for a partition: %w", pg.Safe(err))
	}
	if name == oid { // which is how a table is called that there isn't
		return "a partition (oid " + oid + ") was dropped", nil
	}
	return "partition " + name + " was detached", nil
}
