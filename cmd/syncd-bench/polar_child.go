package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

// A polarSpec says what the process that plays Polar holds and how it behaves.
type polarSpec struct {
	Rows   int `json:"rows"`
	Meters int `json:"meters"`

	Cost              bool          `json:"cost"`                // add up what requests cost
	RequestsPerMinute int           `json:"requests_per_minute"` // 0: no limit
	Latency           time.Duration `json:"latency"`
	CostScale         float64       `json:"cost_scale"` // see polarsim
}

// paced reports whether time matters more than CPU; then the simulation itself
// answers, which knows quotas and latencies.
func (s polarSpec) paced() bool { return s.RequestsPerMinute > 0 || s.Latency > 0 }

// A polarInfo is the first line of that process.
type polarInfo struct {
	URL          string    `json:"url"`
	Organization uuid.UUID `json:"organization"`
	Token        string    `json:"token"`
	Rows         int       `json:"rows"`
	NullRows     int       `json:"null_rows"`
	RowBytes     float64   `json:"row_bytes"` // JSON of a row, on average
}

// A polarReply answers one line of commands.
type polarReply struct {
	Requests    int64  `json:"requests"` // so far
	RateLimited int64  `json:"rate_limited"`
	Cost        cost   `json:"cost"` // of those since the last "cost"
	Error       string `json:"error,omitempty"`
}

// spareMemory is what the process may use for requests beyond its rows before
// garbage is collected.
const spareMemory = 1 << 30

// playPolar is the process that plays Polar. It reads its spec and then commands
// from stdin, a line each: "change N", "stats" and "cost". It ends with its stdin, and
// so with the process that started it.
func playPolar(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	lines := bufio.NewScanner(stdin)
	out := json.NewEncoder(stdout)
	var spec polarSpec
	if !lines.Scan() {
		return errors.New("no spec on standard input")
	}
	if err := json.Unmarshal(lines.Bytes(), &spec); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	p := newPlayer(spec)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		_ = server.Close()
		<-served
	}()
	p.info.URL = "http://" + listener.Addr().String()
	if err := out.Encode(p.info); err != nil {
		return err
	}
	for lines.Scan() && ctx.Err() == nil {
		if err := out.Encode(p.do(lines.Text())); err != nil {
			return err
		}
	}
	return lines.Err()
}

// A player serves either a shelf or the simulation itself.
type player struct {
	http.Handler
	sim    *polarsim.Server
	shelf  *shelfHandler // nil if the simulation answers
	costs  *costHandler  // nil unless costs are added up
	chance *rand.Rand
	info   polarInfo
}

func newPlayer(spec polarSpec) *player {
	sim := simulated(spec.Rows, spec.Meters, polarsim.Options{
		RequestsPerMinute: spec.RequestsPerMinute,
		Latency:           spec.Latency,
		CostScale:         spec.CostScale,
	})
	org := sim.Organizations()[0]
	p := &player{Handler: sim, sim: sim, chance: rand.New(rand.NewPCG(4, 4))}
	p.info = polarInfo{Organization: org.ID, Token: org.Token, Rows: sim.Count(org.ID)}
	switch {
	case spec.paced():
		return p
	case spec.Cost:
		p.costs = &costHandler{sim: sim}
		p.Handler = p.costs
		return p
	}
	s := newShelf(sim)
	p.shelf = &shelfHandler{shelf: s}
	p.Handler = p.shelf
	never, size := s.measure()
	p.info.NullRows, p.info.RowBytes = never, float64(size)/float64(p.info.Rows)
	// Collecting garbage among a million rows would cost CPU that is being measured.
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	debug.SetMemoryLimit(int64(now.HeapAlloc) + spareMemory)
	debug.SetGCPercent(-1)
	return p
}

func (p *player) do(line string) polarReply {
	var reply polarReply
	command, argument, _ := strings.Cut(line, " ")
	switch command {
	case "change":
		n, err := strconv.Atoi(argument)
		if err == nil && p.shelf != nil {
			err = p.shelf.shelf.change(n, p.chance)
		}
		if err != nil {
			reply.Error = err.Error()
		}
	case "cost":
		if p.costs != nil {
			reply.Cost = p.costs.take()
		}
	case "stats":
	default:
		reply.Error = fmt.Sprintf("unknown command %q", command)
	}
	if p.shelf != nil {
		reply.Requests = p.shelf.requests.Load()
		return reply
	}
	for _, r := range p.sim.Requests() {
		reply.Requests++
		if r.Status == http.StatusTooManyRequests {
			reply.RateLimited++
		}
	}
	return reply
}
