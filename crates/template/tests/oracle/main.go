// Says what Go's text/template makes of the templates in a file:
//
//	go run main.go cases.json > golden.json
//
// The file has {"data": {NAME: VALUE}, "cases": [{"name", "data", "text"}]}; cases without "data" get none. A VALUE is a JSON string,
// boolean, null, number (an int unless written with a point or an exponent) or list, or an object with one key that tells its Go
// type: {"record": [["Field", VALUE], ...]} a struct, {"map": {...}} a map[string]interface{}, {"strings": {...}} and {"ints": {...}}
// maps of these. The output has a line per case: {"out"} the text, {"hex"} its bytes if it is not UTF-8, or {"fails"} "parse" or "exec".
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"text/template"
	"unicode/utf8"
)

type result struct {
	Name  string  `json:"name"`
	Out   *string `json:"out,omitempty"`
	Hex   *string `json:"hex,omitempty"`
	Fails string  `json:"fails,omitempty"`
}

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	var input struct {
		Data  map[string]interface{}
		Cases []struct{ Name, Data, Text string }
	}
	decoder := json.NewDecoder(file)
	decoder.UseNumber()
	if err := decoder.Decode(&input); err != nil {
		panic(err)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for i, c := range input.Cases {
		separator := ",\n"
		if i == 0 {
			separator = "[\n"
		}
		out.WriteString(separator)
		if err := encoder.Encode(run(c.Name, c.Text, value(input.Data[c.Data]))); err != nil {
			panic(err)
		}
		out.Truncate(out.Len() - 1)
	}
	out.WriteString("\n]\n")
	os.Stdout.Write(out.Bytes())
}

func run(name, text string, data interface{}) (r result) {
	r.Name = name
	parsed, err := template.New("body").Option("missingkey=zero").Parse(text)
	if err != nil {
		r.Fails = "parse"
		if os.Getenv("WHY") != "" {
			fmt.Fprintln(os.Stderr, name, err)
		}
		return
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		r.Fails = "exec"
		if os.Getenv("WHY") != "" {
			fmt.Fprintln(os.Stderr, name, err)
		}
		return
	}
	made := out.String()
	if utf8.ValidString(made) {
		r.Out = &made
	} else {
		made = hex.EncodeToString(out.Bytes())
		r.Hex = &made
	}
	return
}

// value makes Go data of the description in a case file.
func value(v interface{}) interface{} {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			n, err := v.Int64()
			if err != nil {
				panic(err)
			}
			return int(n)
		}
		n, err := v.Float64()
		if err != nil {
			panic(err)
		}
		return n
	case []interface{}:
		list := make([]interface{}, len(v))
		for i, item := range v {
			list[i] = value(item)
		}
		return list
	case map[string]interface{}:
		for kind, inside := range v {
			return tagged(kind, inside)
		}
	}
	return v
}

func tagged(kind string, inside interface{}) interface{} {
	switch kind {
	case "map":
		m := map[string]interface{}{}
		for key, item := range inside.(map[string]interface{}) {
			m[key] = value(item)
		}
		return m
	case "strings":
		m := map[string]string{}
		for key, item := range inside.(map[string]interface{}) {
			m[key] = item.(string)
		}
		return m
	case "ints":
		m := map[string]int{}
		for key, item := range inside.(map[string]interface{}) {
			m[key] = value(item).(int)
		}
		return m
	case "record":
		var fields []reflect.StructField
		var values []interface{}
		for _, field := range inside.([]interface{}) {
			pair := field.([]interface{})
			v := value(pair[1])
			t := reflect.TypeOf(v)
			if v == nil {
				t = reflect.TypeOf((*interface{})(nil)).Elem()
			}
			fields = append(fields, reflect.StructField{Name: pair[0].(string), Type: t})
			values = append(values, v)
		}
		s := reflect.New(reflect.StructOf(fields)).Elem()
		for i, v := range values {
			if v != nil {
				s.Field(i).Set(reflect.ValueOf(v))
			}
		}
		return s.Interface()
	}
	panic("unknown kind of value " + kind)
}
