// Package configs holds the mappings that walbridge brings along. Each is a
// complete, commented file to copy and change.
package configs

import "embed"

// Default is the mapping that is used when no file is named.
const Default = "niochat.yaml"

// Files are the mappings by their file names.
//
//go:embed niochat.yaml niochat-pt.yaml clinic.yaml
var Files embed.FS

// Read returns a mapping by its file name.
func Read(name string) ([]byte, error) { return Files.ReadFile(name) }
