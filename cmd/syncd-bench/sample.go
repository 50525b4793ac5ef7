package main

import (
	"slices"
	"time"
)

// A sample is one measurement of one phase. What a phase has no notion of is 0.
type sample struct {
	before mark
	stdout []byte

	rows        int
	wall        time.Duration // of the process
	runWall     time.Duration // of the run in polar.sync_runs; of a tick for ticks
	cpu         time.Duration // of the process
	serverCPU   time.Duration // of Postgres
	others      float64       // share of the machine that strangers took
	cpuKnown    bool          // serverCPU and others
	peak        int64         // bytes
	method      string        // sweep or walk, of full runs
	requests    int64
	rateLimited int64
	updated     int64
	wal         int64 // bytes; of one tick for ticks
	versions    []tableCount
}

// A phase is what its samples come to: the medians of times, CPU and the log;
// the worst of memory and of what is counted.
type phase struct {
	Name        string       `json:"phase"`
	Title       string       `json:"title"`
	Runs        int          `json:"runs"`
	Rows        int          `json:"rows"`
	Seconds     float64      `json:"seconds"`
	RunSeconds  float64      `json:"run_seconds,omitempty"` // as polar.sync_runs has it; of one tick
	RowsPerSec  float64      `json:"rows_per_second,omitempty"`
	RunRowsSec  float64      `json:"run_rows_per_second,omitempty"`
	ClientCPU   float64      `json:"client_cpu_us_per_row,omitempty"`
	ServerCPU   *float64     `json:"postgres_cpu_seconds_per_million_rows,omitempty"`
	Others      *float64     `json:"cpu_share_of_other_programs,omitempty"`
	PeakBytes   int64        `json:"peak_memory_bytes"`
	Method      string       `json:"method,omitempty"` // sweep or walk, of full runs
	Requests    int64        `json:"requests"`
	RateLimited int64        `json:"rate_limited"`
	Updated     int64        `json:"rows_updated"`
	WALBytes    int64        `json:"wal_bytes"`
	WALPerRow   *float64     `json:"wal_bytes_per_row,omitempty"`
	NewVersions *int64       `json:"new_row_versions,omitempty"`
	VersionsIn  []tableCount `json:"new_row_versions_by_table,omitempty"`
}

// summarize makes a phase of samples, of which there is at least one.
func summarize(name, title string, samples []sample) phase {
	p := phase{Name: name, Title: title, Runs: len(samples), Rows: samples[0].rows, Method: samples[0].method}
	p.Seconds = median(samples, func(s sample) float64 { return s.wall.Seconds() })
	p.RunSeconds = median(samples, func(s sample) float64 { return s.runWall.Seconds() })
	p.WALBytes = int64(median(samples, func(s sample) float64 { return float64(s.wal) }))
	known := true
	for _, s := range samples {
		p.PeakBytes = max(p.PeakBytes, s.peak)
		p.Requests = max(p.Requests, s.requests)
		p.RateLimited = max(p.RateLimited, s.rateLimited)
		p.Updated = max(p.Updated, s.updated)
		known = known && s.cpuKnown
		if s.versions != nil && (p.NewVersions == nil || total(s.versions) > *p.NewVersions) {
			p.NewVersions, p.VersionsIn = new(total(s.versions)), s.versions
		}
	}
	if p.Rows == 0 {
		return p
	}
	rows := float64(p.Rows)
	p.RowsPerSec = rows / p.Seconds
	if p.RunSeconds > 0 {
		p.RunRowsSec = rows / p.RunSeconds
	}
	p.ClientCPU = median(samples, func(s sample) float64 { return float64(s.cpu.Microseconds()) }) / rows
	p.WALPerRow = new(float64(p.WALBytes) / rows)
	if known {
		p.ServerCPU = new(median(samples, func(s sample) float64 { return s.serverCPU.Seconds() }) / rows * 1e6)
		p.Others = new(median(samples, func(s sample) float64 { return s.others }))
	}
	return p
}

// median returns the middle value, or the mean of the two.
func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}
