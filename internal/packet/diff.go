package packet

import (
	"fmt"
	"reflect"
)

// A Difference is a header field in which two packets differ.
type Difference struct {
	Field string // such as "TTL" or "TCP.Window"
	A, B  string // its value in each packet
}

// String returns the difference on one line.
func (d Difference) String() string { return fmt.Sprintf("%s: %s, not %s", d.Field, d.A, d.B) }

// Diff compares two packets field by field, in the order of the Packet type.
// Checksums are compared by their error, so two correct ones are equal whatever
// they cover.
func Diff(a, b *Packet) []Difference {
	return diff(nil, "", reflect.ValueOf(*a), reflect.ValueOf(*b))
}

func diff(found []Difference, field string, a, b reflect.Value) []Difference {
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		return diff(found, field, a.Elem(), b.Elem())
	}
	// A struct with no exported field, such as an address, is compared as one
	// value.
	if a.Kind() == reflect.Struct && a.Type().Field(0).IsExported() {
		for i := range a.NumField() {
			name := a.Type().Field(i).Name
			if field != "" {
				name = field + "." + name
			}
			found = diff(found, name, a.Field(i), b.Field(i))
		}
		return found
	}
	if s, t := show(a), show(b); s != t {
		found = append(found, Difference{field, s, t})
	}
	return found
}

// show returns one field's value: octets in hexadecimal, a missing header as
// "none".
func show(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "none"
		}
		return fmt.Sprintf("%+v", v.Elem().Interface())
	}
	if b, ok := v.Interface().([]byte); ok {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%+v", v.Interface())
}
