package mapping

import (
	"slices"

	"github.com/walbridge/walbridge/internal/pg"
)

// fit says how values of one type go into another.
type fit uint8

const (
	// refused: values would be cut, rounded or refused by the target.
	refused fit = iota
	// exact: the target gives back the very text that was written.
	exact
	// rewritten: the target may give back another text for the same value, so
	// the bridge must write it as the target would (json to jsonb).
	rewritten
)

// builtin makes one of PostgreSQL's own types.
func builtin(name string) *pg.Type {
	t := &pg.Type{Schema: "pg_catalog", Name: name, Mod: -1, Display: name, Kind: "b", Category: "U"}
	switch name {
	case "text", "varchar", "bpchar", "name":
		t.Category = "S"
	case "int2", "int4", "int8", "numeric":
		t.Category = "N"
	case "bool":
		t.Category = "B"
	}
	return t
}

// base is what a domain rests on, and any other type itself.
func base(t *pg.Type) *pg.Type {
	if t.Kind == "d" && t.Base != nil {
		return t.Base
	}
	return t
}

func isBuiltin(t *pg.Type, names ...string) bool {
	return t.Builtin() && slices.Contains(names, t.Name)
}

// integerDigits is how many decimal digits an integer type has.
var integerDigits = map[string]int32{"int2": 5, "int4": 10, "int8": 19}

func isInteger(t *pg.Type) bool { return isBuiltin(base(t), "int2", "int4", "int8") }

// isIntegerOID knows the OIDs of int8, int2 and int4 (pg_type.dat).
func isIntegerOID(oid uint32) bool { return oid == 20 || oid == 21 || oid == 23 }

func isJSON(t *pg.Type) bool { return isBuiltin(base(t), "json", "jsonb") }

// isText reports that a type's values are free texts, or labels.
func isText(t *pg.Type) bool {
	t = base(t)
	return isBuiltin(t, "text", "varchar", "bpchar", "name", "char") || t.Kind == "e" || t.Name == "citext"
}

func isArray(t *pg.Type) bool { return t.Category == "A" && t.Element != nil }

// sameType reports that two types are one. PostgreSQL's own have the same name
// everywhere; others count by their name alone, because Supabase keeps
// extensions in a schema of their own.
func sameType(a, b *pg.Type) bool {
	return a.Name == b.Name && a.Builtin() == b.Builtin()
}

// fits says how values of v go into a column of type w. It never allows what
// would cut or round a value: the target would do that silently, or refuse rows
// one by one.
func fits(v, w *pg.Type) fit {
	if v.Kind == "d" && w.Kind == "d" && v.Name == w.Name {
		return exact
	}
	v, w = base(v), base(w)
	if sameType(v, w) {
		if modFits(v, w) {
			return exact
		}
		return refused
	}
	switch {
	case isBuiltin(w, "text"), isBuiltin(w, "varchar") && w.Mod < 0:
		return exact
	case isBuiltin(w, "varchar") && isBuiltin(v, "bpchar") && v.Mod >= 0 && v.Mod <= w.Mod:
		return exact
	case isText(v) && (w.Name == "citext" || w.Kind == "e"):
		return exact
	case integerDigits[v.Name] > 0 && isInteger(v) && isInteger(w):
		if integerDigits[v.Name] <= integerDigits[w.Name] {
			return exact
		}
	case isInteger(v) && isBuiltin(w, "numeric"):
		if p, s := numericMod(w.Mod); w.Mod < 0 || s == 0 && p >= integerDigits[v.Name] {
			return exact
		}
	case isBuiltin(v, "json") && isBuiltin(w, "jsonb"):
		return rewritten
	case isBuiltin(v, "jsonb") && isBuiltin(w, "json"):
		return exact
	case isArray(v) && isArray(w) && fits(v.Element, w.Element) == exact:
		return exact
	}
	return refused
}

// modFits reports whether a modifier of v leaves all values of v as they are
// under that of w, to the last zero.
func modFits(v, w *pg.Type) bool {
	switch {
	case w.Mod < 0 || v.Mod == w.Mod:
		return true
	case v.Mod < 0:
		// timestamp(6) is what timestamp means.
		return isBuiltin(w, "timestamp", "timestamptz", "time", "timetz") && w.Mod == 6
	case isBuiltin(v, "varchar", "varbit", "timestamp", "timestamptz", "time", "timetz"):
		return v.Mod <= w.Mod
	case isBuiltin(v, "numeric"):
		vp, vs := numericMod(v.Mod)
		wp, ws := numericMod(w.Mod)
		return vs == ws && vp <= wp // another scale prints other zeros
	}
	return false
}

// numericMod takes the modifier of a numeric apart (numeric.c,
// make_numeric_typmod).
func numericMod(mod int32) (precision, scale int32) {
	mod -= 4
	return mod >> 16 & 0xffff, (mod&0x7ff ^ 1024) - 1024
}

// sameKeyText reports that two columns of these types are equal exactly when
// their texts are: the bridge follows a foreign key by its text.
func sameKeyText(a, b *pg.Type) bool {
	a, b = base(a), base(b)
	switch {
	case isInteger(a) && isInteger(b):
		return true
	case isBuiltin(a, "text", "varchar") && isBuiltin(b, "text", "varchar"):
		return true
	case isBuiltin(a, "float4", "float8", "interval", "timetz", "json", "jsonb", "money", "bpchar"), a.Name == "citext":
		return false // equal values with several texts
	case isBuiltin(a, "numeric") && a.Mod < 0:
		return false // 1 = 1.0
	}
	return sameType(a, b) && a.Mod == b.Mod
}

// targetDefault is the type of a column that Install makes for values of v: the
// same without its modifier. Types that only the source knows become text, which
// holds all of their values.
func targetDefault(v *pg.Type) (t *pg.Type, ok bool) {
	v = base(v)
	switch {
	case isText(v):
		return builtin("text"), true
	case isArray(v):
		e, ok := targetDefault(v.Element)
		if !ok || !e.Builtin() {
			return nil, false
		}
		a := builtin("_" + e.Name)
		a.Category, a.Element = "A", e
		return a, true
	case v.Builtin():
		t := *v
		t.Mod, t.Display = -1, v.Name
		return &t, true
	}
	return nil, false
}

// catalogType is the type that a file names.
func (t *typeName) catalogType() *pg.Type {
	if t.schema == "pg_catalog" {
		b := builtin(t.name)
		if len(t.name) > 1 && t.name[0] == '_' {
			b.Category, b.Element = "A", builtin(t.name[1:])
		}
		return b
	}
	// Whether it is an enum, a domain or an extension's is not known here; the
	// target finds out when the table is made.
	return &pg.Type{Schema: t.schema, Name: t.name, Mod: -1, Display: t.schema + "." + t.name, Kind: "e", Category: "E"}
}
