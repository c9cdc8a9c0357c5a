//go:build !linux

package oracle

import (
	"errors"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func mountSmall(*testing.T, *pgtest.Cluster) (string, error) { return "", errors.ErrUnsupported }
