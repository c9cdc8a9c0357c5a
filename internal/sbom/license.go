package sbom

import (
	"os"
	"path/filepath"
	"strings"
)

// licenses are recognised by sentences that only they have, the more particular first.
var licenses = []struct {
	id    string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0, January 2004"}},
	{"MPL-2.0", []string{"Mozilla Public License", "2.0"}},
	{"BSD-3-Clause", []string{"Redistribution and use in source and binary forms", "endorse or promote products"}},
	{"BSD-2-Clause", []string{"Redistribution and use in source and binary forms"}},
	{"ISC", []string{"Permission to use, copy, modify, and/or distribute this software for any purpose"}},
	{"ISC", []string{"Permission to use, copy, modify, and distribute this software for any purpose"}},
	{"MIT", []string{"Permission is hereby granted, free of charge, to any person obtaining a copy"}},
}

// LicenseOf returns the SPDX identifier of the license in dir, "" if there is none, or
// none that it knows.
func LicenseOf(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		if id := recognise(string(text)); id != "" {
			return id
		}
	}
	return ""
}

// recognise compares words, because lines break anywhere.
func recognise(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, l := range licenses {
		all := true
		for _, w := range l.words {
			all = all && strings.Contains(text, w)
		}
		if all {
			return l.id
		}
	}
	return ""
}
