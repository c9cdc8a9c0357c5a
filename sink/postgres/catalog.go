package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/walbridge/walbridge/internal/pg"
)

// Catalog reads what the target says about tables, as pg.ReadCatalog does.
func (s *Sink) Catalog(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
	return pg.CollectCatalog(tables, func(schemas, names []string) (found []*pg.Table, err error) {
		err = s.query(ctx, "read the catalog", op{
			sql:  pg.CatalogSQL,
			args: [][]byte{textArray(schemas), textArray(names)},
			read: each(func(v [][]byte) error {
				t := new(pg.Table)
				if err := json.Unmarshal(v[0], t); err != nil {
					return fmt.Errorf("read a table of the catalog: %w", err)
				}
				found = append(found, t)
				return nil
			}),
		})
		return found, err
	})
}
