package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"path"
	"strings"
)

//go:embed page
var pageFiles embed.FS

// views are the parsed templates and the files that they refer to.
type views struct {
	templates map[string]*template.Template
	assets    map[string]asset // by name
	paths     assetPaths
}

// assetPaths are where the page's files are served: their names change with
// what is in them.
type assetPaths struct{ Style, Script, Icon string }

type asset struct {
	kind string
	body []byte
}

// pages are the views with a frame around them; each is a file of its name.
func pages() []string {
	return []string{"home", "organization", "meter", "customers", "customer", "runs", "failure"}
}

func parseViews() (*views, error) {
	v := &views{templates: map[string]*template.Template{}, assets: map[string]asset{}}
	for file, to := range map[string]*string{"page.css": &v.paths.Style, "page.js": &v.paths.Script, "icon.svg": &v.paths.Icon} {
		body, err := pageFiles.ReadFile("page/" + file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		name := named8(file, body)
		v.assets[name] = asset{kind: kinds()[path.Ext(file)], body: body}
		*to = "/assets/" + name
	}
	shared := template.New("").Funcs(functions())
	if _, err := shared.ParseFS(pageFiles, "page/frame.html", "page/parts.html", "page/live.html", "page/panels.html"); err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	for _, name := range pages() {
		t, err := shared.Clone()
		if err == nil {
			_, err = t.ParseFS(pageFiles, "page/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("parse template %s: %w", name, err)
		}
		v.templates[name] = t
	}
	return v, nil
}

// named8 puts eight digits of a file's hash into its name.
func named8(file string, body []byte) string {
	sum := sha256.Sum256(body)
	ext := path.Ext(file)
	return strings.TrimSuffix(file, ext) + "." + hex.EncodeToString(sum[:4]) + ext
}

func kinds() map[string]string {
	return map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
}

func functions() template.FuncMap {
	return template.FuncMap{
		"count": func(n any) (string, error) {
			x, err := integer(n)
			return count(x), err
		},
		"plural": func(n any, one, many string) (string, error) {
			x, err := integer(n)
			return plural(x, one, many), err
		},
		"chart":   chartOf,
		"ranking": rankingOf,
	}
}

func integer(n any) (int64, error) {
	switch n := n.(type) {
	case int:
		return int64(n), nil
	case int64:
		return n, nil
	default:
		return 0, fmt.Errorf("%v is a %T", n, n)
	}
}

// A shownChart is a chart and what it is about, as a class.
type shownChart struct {
	Class string
	Pair  chartPair
}

func chartOf(class string, pair any) (shownChart, error) {
	switch pair := pair.(type) {
	case chartPair:
		return shownChart{class, pair}, nil
	case *chartPair:
		return shownChart{class, *pair}, nil
	default:
		return shownChart{}, fmt.Errorf("%T is no chart", pair)
	}
}

// A shownRanking is a ranking and what stands around it.
type shownRanking struct {
	Caption, Value, None string
	Unranked             bool
	Places               []place
}

func rankingOf(caption, value, none string, unranked bool, places []place) shownRanking {
	return shownRanking{caption, value, none, unranked, places}
}

// render writes what an entry of a view's templates makes of f: "frame" is the
// whole page.
func (v *views) render(w io.Writer, view, entry string, f frame) error {
	return v.templates[view].ExecuteTemplate(w, entry, f)
}
