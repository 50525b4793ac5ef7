package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A usage is what a process took, from its start to its end.
type usage struct {
	wall   time.Duration
	cpu    time.Duration // user and system
	peak   int64         // bytes resident at most; 0 if unknown
	stdout string
}

const (
	// stopTime is how long a process may take to end once it is told to.
	stopTime = 10 * time.Second
	// peakEvery is how often a process's peak memory is looked at. The kernel
	// keeps the peak; only what grows after the last look is missed.
	peakEvery = 10 * time.Millisecond
)

// command prepares a process that ends in order when ctx does.
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTime
	return cmd
}

// measure runs a process to its end. Its error holds the end of what the process
// wrote to stderr.
func measure(cmd *exec.Cmd) (usage, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	var u usage
	var looking sync.WaitGroup
	ended := make(chan struct{})
	looking.Go(func() {
		ticker := time.NewTicker(peakEvery)
		defer ticker.Stop()
		for {
			u.peak = max(u.peak, peakMemory(cmd.Process.Pid))
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
		}
	})
	err := cmd.Wait()
	u.wall = time.Since(began)
	close(ended)
	looking.Wait()
	if err != nil {
		said := bytes.TrimSpace(stderr.Bytes())
		return usage{}, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, said[max(0, len(said)-1000):])
	}
	u.cpu, u.stdout = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), stdout.String()
	return u, nil
}

// What follows reads Linux's /proc (proc(5)). Elsewhere it knows nothing.

// clockTick is the unit of times in /proc/PID/stat, USER_HZ, which is 100 on every
// architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// peakMemory is the most memory a process had resident so far, in bytes; 0 if
// unknown.
//
// It is not what wait4(2) tells of an ended process: that also counts the
// memory of its parent between fork and exec.
func peakMemory(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "\nVmHWM:")
	line, _, _ := strings.Cut(rest, " kB")
	kib, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64) // 0 once it has ended
	return kib << 10
}

// A procStat is part of /proc/PID/stat.
type procStat struct {
	parent int
	own    time.Duration // CPU of the process
	waited time.Duration // CPU of its children that have ended and were waited for
}

func readStat(pid int) (procStat, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, false
	}
	// The second field is the name in parentheses, which may hold anything.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(f) < 15 {
		return procStat{}, false
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(f[i]) // the kernel writes numbers there
		return n
	}
	ticks := func(i int) time.Duration { return time.Duration(number(i)+number(i+1)) * clockTick }
	return procStat{parent: number(1), own: ticks(11), waited: ticks(13)}, true
}

// familyCPU is the CPU that a process and its children, ended ones included,
// have used so far; 0 if unknown.
func familyCPU(pid int) time.Duration {
	for range 20 {
		before, ok := readStat(pid)
		if !ok {
			return 0
		}
		total := before.own + before.waited
		processes, _ := os.ReadDir("/proc")
		for _, p := range processes {
			child, err := strconv.Atoi(p.Name())
			if err != nil {
				continue // not a process
			}
			if st, ok := readStat(child); ok && st.parent == pid {
				total += st.own + st.waited
			}
		}
		// A child that was waited for meanwhile counts twice or not at all.
		if after, ok := readStat(pid); ok && after.waited == before.waited {
			return total
		}
	}
	return 0
}
