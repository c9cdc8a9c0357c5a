package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

func fileCheck(_ context.Context, e *Env) (found []Finding, err error) {
	e.file, err = mapping.Parse(e.MappingName, e.Mapping)
	return e.mistakes(err, "docs/mapping.md describes the file"), nil
}

// mappingCheck compiles the mapping against both databases, or against the source
// alone while the target can't be reached.
func mappingCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	src, err := pg.ReadCatalog(ctx, e.source.conn, e.file.SourceTables())
	if err != nil {
		return nil, fmt.Errorf("read the source's catalog: %w", err)
	}
	var dst *pg.Catalog
	if e.target.reached(ctx) {
		if dst, err = e.target.catalog(ctx, e.file.TargetTables()); err != nil {
			return nil, fmt.Errorf("read the target's catalog: %w", err)
		}
	} else {
		found = append(found, Finding{Severity: Info, What: "the mapping was compared with the source alone, because " + cmp.Or(e.target.deaf, "the target can't be reached")})
	}
	m, err := mapping.Compile(e.file, src, dst, e.Compile)
	if err != nil {
		return append(found, e.mistakes(err, "")...), nil
	}
	e.mapping = m
	for _, text := range m.Warnings {
		found = append(found, Finding{Severity: Warning, What: text})
	}
	return found, nil
}

// mistakes makes a finding of every problem of the mapping.
func (e *Env) mistakes(err error, fix string) (found []Finding) {
	for _, err := range unjoin(err) {
		f := failed(err)
		f.Fix = fix
		var p *mapping.Problem
		if errors.As(err, &p) {
			bare := *p
			bare.Fix = ""
			f.What = bare.Error()
			if p.Fix != "" {
				f.Fix = p.Fix
			}
			if p.Table != (pg.TableName{}) {
				e.refused[p.Table] = true
			}
		}
		found = append(found, f)
	}
	return found
}
