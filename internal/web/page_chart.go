package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/go-analyze/charts"
)

// A chart is drawn with ink that stands for a role. The library writes it as a
// style of each element, which neither follows the reader's colours nor passes
// a content security policy; classesOf makes classes of it, and page.css gives
// those their colours, light or dark.
const (
	inkAxis  = "rgb(1,1,1)"
	inkGrid  = "rgb(2,2,2)"
	inkLabel = "rgb(3,3,3)"
	inkMark  = "rgb(4,4,4)"
)

// plain is a theme of roles.
func plain() charts.ColorPalette {
	ink := func(n uint8) charts.Color { return charts.Color{R: n, G: n, B: n, A: 255} }
	return charts.MakeTheme(charts.ThemeOption{
		AxisStrokeColor:    ink(1),
		AxisSplitLineColor: ink(2),
		TextColor:          ink(3),
		BackgroundColor:    charts.ColorTransparent,
		SeriesColors:       []charts.Color{ink(4)},
	})
}

// A drawing says what a chart shows. Texts are labels of this package's making,
// never what a customer typed.
type drawing struct {
	Labels []string // below the values, one each
	Values []float64
	Gaps   []bool // values that are unknown; nil if none is
	Width  int    // of the drawing area in pixels; it scales with the page
	Height int
	Axes   bool // with labels and a grid
}

const (
	labelSize  = 11 // pixels, at the chart's own size
	steps      = 4  // between the labels at the side, at most
	pxPerLabel = 80 // of the axis below
)

// bars draws a bar for each value.
func bars(d drawing) (template.HTML, error) {
	opt := charts.NewBarChartOptionWithData([][]float64{d.Values})
	opt.Theme = plain()
	opt.Padding = d.padding()
	opt.BarSize = 0.7
	opt.CategoryAxis = d.categories()
	opt.ValueAxis = []charts.ValueAxisOption{d.values()}
	return d.draw(func(p *charts.Painter) error { return p.BarChart(opt) })
}

// line draws a line through the values.
func line(d drawing) (template.HTML, error) {
	var known []float64
	values := slices.Clone(d.Values)
	for i, gap := range d.Gaps {
		if gap {
			values[i] = charts.GetNullValue()
		} else {
			known = append(known, values[i])
		}
	}
	d.Values = known
	opt := charts.NewLineChartOptionWithData([][]float64{values})
	opt.Theme = plain()
	opt.Padding = d.padding()
	opt.LineStrokeWidth = 1.5
	opt.Symbol = charts.Symbol{Shape: charts.SymbolNone}
	opt.XAxis = d.categories()
	opt.XAxis.BoundaryGap = charts.Ptr(false)
	opt.YAxis = []charts.ValueAxisOption{d.values()}
	return d.draw(func(p *charts.Painter) error { return p.LineChart(opt) })
}

func (d drawing) padding() charts.Box {
	if d.Axes {
		return charts.NewBox(0, 6, 14, 0)
	}
	return charts.NewBox(0, 2, 0, 1)
}

// categories labels every so many values, and none near the end: the library
// moves the last label to where it fits, into the one before.
func (d drawing) categories() charts.CategoryAxisOption {
	every := max(1, (len(d.Labels)*pxPerLabel+d.Width-1)/d.Width)
	labels := make([]string, len(d.Labels))
	for i := range labels {
		if i%every == 0 && (i+every/2 < len(labels)-1 || every == 1) {
			labels[i] = d.Labels[i]
		}
	}
	return charts.CategoryAxisOption{
		Show:           charts.Ptr(d.Axes),
		Labels:         labels,
		LabelCount:     len(labels),
		LabelFontStyle: charts.FontStyle{FontSize: labelSize},
	}
}

// values is a scale of round numbers.
func (d drawing) values() charts.ValueAxisOption {
	low, high, step := scale(d.Values)
	return charts.ValueAxisOption{
		Show:                   charts.Ptr(d.Axes),
		Min:                    &low,
		Max:                    &high,
		RangeValuePaddingScale: charts.Ptr(0.0),
		LabelCount:             int(math.Round((high-low)/step)) + 1,
		PreferNiceIntervals:    charts.Ptr(false),
		LabelFontStyle:         charts.FontStyle{FontSize: labelSize},
		SplitLineShow:          charts.Ptr(d.Axes),
		ValueFormatter:         short,
	}
}

// scale returns the ends of an axis for values, and a step of 1, 2 or 5 times a
// power of ten that divides it. Values that are all of one sign are seen beside
// zero unless they differ by little.
func scale(values []float64) (low, high, step float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	if len(values) == 0 || low == high && low == 0 {
		return 0, 1, 1
	}
	if low == high || low > 0 && low < (high-low)*2 || high < 0 && -high < (high-low)*2 {
		low, high = min(low, 0), max(high, 0)
	}
	rough := (high - low) / steps
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	step = 10 * power
	for _, n := range []float64{1, 2, 5} {
		if n*power >= rough {
			step = n * power
			break
		}
	}
	return step * math.Floor(low/step), step * math.Ceil(high/step), step
}

func (d drawing) draw(chart func(*charts.Painter) error) (template.HTML, error) {
	p := charts.NewPainter(charts.PainterOptions{Width: d.Width, Height: d.Height, OutputFormat: charts.ChartOutputSVG})
	if err := chart(p); err != nil {
		return "", fmt.Errorf("draw chart: %w", err)
	}
	svg, err := p.Bytes()
	if err != nil {
		return "", fmt.Errorf("draw chart: %w", err)
	}
	return classesOf(svg)
}

// classesOf writes an SVG anew with classes in place of styles. Nothing but
// shapes and texts, and of these nothing but geometry, passes.
func classesOf(svg []byte) (template.HTML, error) {
	var out strings.Builder
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return template.HTML(out.String()), nil // of the tags and attributes that open lets pass, texts escaped
		}
		if err != nil {
			return "", fmt.Errorf("read chart: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if err := open(&out, t); err != nil {
				return "", err
			}
		case xml.EndElement:
			out.WriteString("</" + t.Name.Local + ">")
		case xml.CharData:
			template.HTMLEscape(&out, t)
		}
	}
}

func open(out *strings.Builder, t xml.StartElement) error {
	switch t.Name.Local {
	case "svg":
		out.WriteString(`<svg aria-hidden="true" focusable="false"`)
	case "path", "text", "circle":
		out.WriteString("<" + t.Name.Local)
	default:
		return fmt.Errorf("chart holds a <%s>", t.Name.Local)
	}
	for _, a := range t.Attr {
		switch a.Name.Local {
		case "viewBox", "d", "x", "y", "cx", "cy", "r":
			fmt.Fprintf(out, ` %s="%s"`, a.Name.Local, template.HTMLEscapeString(strings.ReplaceAll(a.Value, "\n", " ")))
		case "style":
			fmt.Fprintf(out, ` class="%s"`, class(t, a.Value))
		}
	}
	out.WriteString(">")
	return nil
}

// class is the role of an element that was drawn with style.
func class(t xml.StartElement, style string) string {
	switch {
	case t.Name.Local == "text":
		return "c-label"
	case strings.Contains(style, "stroke:"+inkAxis) && upright(t):
		return "c-tick"
	case strings.Contains(style, "stroke:"+inkAxis):
		return "c-axis"
	case strings.Contains(style, "stroke:"+inkGrid):
		return "c-grid"
	case strings.Contains(style, "stroke:"+inkMark):
		return "c-line"
	case strings.Contains(style, "fill:"+inkMark):
		return "c-mark"
	default:
		return "c-none"
	}
}

// upright reports whether a path is one vertical stroke: M x y L x y.
func upright(t xml.StartElement) bool {
	for _, a := range t.Attr {
		if a.Name.Local == "d" {
			f := strings.Fields(a.Value)
			return len(f) == 6 && f[1] == f[4]
		}
	}
	return false
}
