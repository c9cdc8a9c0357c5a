package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

// Compile reads the catalogs of both databases and compiles a mapping file
// against them, as the bridge does when it starts.
func Compile(ctx context.Context, f *mapping.File, opts mapping.CompileOptions, source, target *pgx.Conn) (*mapping.Mapping, error) {
	src, err := pg.ReadCatalog(ctx, source, f.SourceTables())
	if err != nil {
		return nil, fmt.Errorf("read the source's catalog: %w", err)
	}
	dst, err := pg.ReadCatalog(ctx, target, f.TargetTables())
	if err != nil {
		return nil, fmt.Errorf("read the target's catalog: %w", err)
	}
	return mapping.Compile(f, src, dst, opts)
}
