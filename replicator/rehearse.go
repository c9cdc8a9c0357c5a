package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

// gate checks what the bridge needs of the source, without changing anything, so
// that nothing has been made at the target when the source refuses.
func (b *bridge) gate(ctx context.Context, source *pgx.Conn, m *mapping.Mapping) error {
	if err := checkSettings(ctx, source, b.Name); err != nil {
		return err
	}
	pub, err := EnsurePublication(ctx, source, b.Name, publishedOf(m), false)
	if err != nil {
		return err
	}
	if !b.Manual {
		if err := rehearse(ctx, source, pub); err != nil {
			return err
		}
	}
	return readable(ctx, source, m)
}

// checkSettings refuses a source that can't be streamed, with all that is wrong.
func checkSettings(ctx context.Context, source *pgx.Conn, name string) error {
	found, err := CheckSource(ctx, source, name, name)
	if err != nil {
		return err
	}
	return errors.Join(found...)
}

// rehearse runs the statements of pub and takes them back: only trying tells
// whether the role may.
func rehearse(ctx context.Context, source *pgx.Conn, pub Prepared) error {
	if len(pub.SQL) == 0 {
		return nil
	}
	tx, err := source.Begin(ctx)
	if err != nil {
		return fmt.Errorf("rehearse the publication: %w", pg.Safe(err))
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, sql := range pub.SQL {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return cannotPublish(sql, err)
		}
	}
	return nil
}

func cannotPublish(sql string, err error) error {
	err = fmt.Errorf("prepare the publication: %w", pg.Safe(err))
	if class := fault.ClassOf(err); class == fault.Retry {
		return err // a lock, a connection
	}
	return fault.Wrap(fault.Stop, "run it as the owner of the tables, who needs CREATE on the database: "+sql, err)
}

// readable reads no row of each table with the statement that a copy reads it
// with. Row security would hide rows from the copy and not from the stream, so
// the session has it off, and a table with rows to hide is refused here, too.
func readable(ctx context.Context, source *pgx.Conn, m *mapping.Mapping) error {
	role := pg.Quote(source.Config().User)
	for _, s := range m.Sources {
		piece, _ := s.PieceSQL(nil, 1)
		err := exec(ctx, source.PgConn(), "EXPLAIN "+piece)
		if err == nil {
			continue
		}
		err = fmt.Errorf("read table %s: %w", s.FullName(), pg.Safe(err))
		if fault.Code(err) != "42501" {
			return err
		}
		table := pg.Quote(s.Schema, s.Name)
		hint := "GRANT SELECT ON " + table + " TO " + role + "; and USAGE on its schema"
		for _, r := range m.Reads {
			hint += "; the mapping reads " + r.SQL() + " as well"
		}
		return fault.Wrap(fault.Stop, hint+"; if it has row security: ALTER ROLE "+role+" BYPASSRLS; or use the role that owns it", err)
	}
	return nil
}
