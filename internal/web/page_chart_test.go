package web

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestChartsCarryNoStyleAndNothingButShapes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 120).Draw(t, "values")
		d := drawing{Width: rapid.SampledFrom([]int{360, 420, 1080}).Draw(t, "width"), Height: 150, Axes: rapid.Bool().Draw(t, "axes")}
		for range n {
			d.Values = append(d.Values, rapid.Float64Range(-1e15, 1e21).Draw(t, "value"))
			d.Labels = append(d.Labels, rapid.SampledFrom([]string{"Nov 1", `<script>alert("x")</script>`, "&", ""}).Draw(t, "label"))
			d.Gaps = append(d.Gaps, rapid.IntRange(0, 3).Draw(t, "gap") == 0)
		}
		for name, draw := range map[string]func(drawing) (svg string, err error){
			"bars": func(d drawing) (string, error) { h, err := bars(d); return string(h), err },
			"line": func(d drawing) (string, error) { h, err := line(d); return string(h), err },
		} {
			svg, err := draw(d)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkSVG(t, svg)
		}
	})
}

func checkSVG(t *rapid.T, svg string) {
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch start.Name.Local {
		case "svg", "path", "text", "circle":
		default:
			t.Fatalf("chart holds a <%s>", start.Name.Local)
		}
		for _, a := range start.Attr {
			if a.Name.Local == "style" || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
				t.Fatalf("<%s %s=%q>", start.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

func TestChartWithForeignElementsIsRefused(t *testing.T) {
	t.Parallel()
	if svg, err := classesOf([]byte(`<svg><script>alert(1)</script></svg>`)); err == nil {
		t.Errorf("passed as %s", svg)
	}
	svg, err := classesOf([]byte(`<svg onload="alert(1)" viewBox="0 0 1 1"><text x="1" onclick="x" style="fill:red">a &lt;b&gt;</text></svg>`))
	if want := `<svg aria-hidden="true" focusable="false" viewBox="0 0 1 1"><text x="1" class="c-label">a &lt;b&gt;</text></svg>`; err != nil || string(svg) != want {
		t.Errorf("%s (%v), want %s", svg, err, want)
	}
}

func TestScaleHoldsAllValuesBetweenRoundNumbers(t *testing.T) {
	t.Parallel()
	for range 2000 {
		var values []float64
		size := math.Pow(10, float64(rand.IntN(24)-6))
		for range 1 + rand.IntN(30) {
			values = append(values, (rand.Float64()-float64(rand.IntN(2)))*size)
		}
		low, high, step := scale(values)
		n := (high - low) / step
		if n < 1 || n > steps+2 || math.Abs(n-math.Round(n)) > 1e-6 {
			t.Fatalf("%v: from %v to %v in steps of %v", values, low, high, step)
		}
		for _, v := range values {
			if v < low-step*1e-9 || v > high+step*1e-9 {
				t.Fatalf("%v lies outside %v to %v", v, low, high)
			}
		}
	}
	if low, high, _ := scale(nil); low != 0 || high != 1 {
		t.Errorf("nothing: %v to %v", low, high)
	}
}
