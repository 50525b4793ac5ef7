package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// What follows reads Linux's /proc (proc(5)). Elsewhere it reports that it does
// not know.

// tick is the unit of times in /proc/PID/stat, USER_HZ, which is 100 on every
// architecture that Go runs on.
const tick = 10 * time.Millisecond

// A procStat is part of /proc/PID/stat.
type procStat struct {
	parent  int
	own     time.Duration // CPU of the process
	waited  time.Duration // CPU of its children that have ended and were waited for
	zombie  bool
	started string // in ticks since boot; tells processes apart that share a number
}

func readStat(pid int) (procStat, bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, false
	}
	// The second field is the name in parentheses, which may hold anything.
	i := bytes.LastIndexByte(raw, ')')
	if i < 0 {
		return procStat{}, false
	}
	f := strings.Fields(string(raw[i+1:]))
	if len(f) < 20 {
		return procStat{}, false
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return procStat{
		zombie:  f[0] == "Z",
		parent:  int(number(1)),
		own:     time.Duration(number(11)+number(12)) * tick,
		waited:  time.Duration(number(13)+number(14)) * tick,
		started: f[19],
	}, true
}

// familyCPU is the CPU that a process and its children, ended ones included,
// have used so far.
func familyCPU(pid int) (time.Duration, bool) {
	// A child that is waited for between the looks would count twice or not at all.
	for range 20 {
		before, ok := readStat(pid)
		if !ok {
			return 0, false
		}
		total := before.own + before.waited
		for _, child := range childrenOf(pid) {
			if st, ok := readStat(child); ok && st.parent == pid {
				total += st.own + st.waited
			}
		}
		if after, ok := readStat(pid); ok && after.waited == before.waited {
			return total, true
		}
		time.Sleep(time.Millisecond)
	}
	return 0, false
}

func childrenOf(pid int) []int {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil { // the pattern is a constant
		return nil
	}
	var children []int
	for _, path := range paths {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if st, ok := readStat(child); ok && st.parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// peakMemory is the most memory a process had resident so far, in bytes.
//
// It is not what wait4(2) tells of an ended process: that also counts the
// memory of its parent between fork and exec.
func peakMemory(pid int) (int64, bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	_, rest, found := bytes.Cut(raw, []byte("\nVmHWM:"))
	if !found {
		return 0, false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(string(line), " kB")), 10, 64)
	return kib << 10, err == nil
}

// machineCPU is the CPU that everything on the machine has used so far, and what
// other virtual machines took away from it.
func machineCPU() (time.Duration, bool) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	if len(f) < 9 || f[0] != "cpu" {
		return 0, false
	}
	var total time.Duration
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n) * tick
	}
	return total, true
}

// loadAverage is how many processes wanted to run, on average of the last
// minute; 0 if unknown.
func loadAverage() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// maxRSSUnit is the unit of ru_maxrss in bytes.
func maxRSSUnit() int64 {
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return 1
	}
	return 1 << 10
}
