package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/procfs"
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

// peakMemory is the most memory a process had resident so far, in bytes; 0 if
// unknown.
//
// It is not what wait4(2) tells of an ended process: that also counts the
// memory of its parent between fork and exec.
func peakMemory(pid int) int64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	status, _ := p.NewStatus() // zero once it has ended
	return int64(status.VmHWM)
}

func readStat(pid int) (procfs.ProcStat, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return p.Stat()
}

// familyCPU is the CPU that a process and its children, ended ones included,
// have used so far; 0 if unknown.
func familyCPU(pid int) time.Duration {
	for range 20 {
		before, err := readStat(pid)
		if err != nil {
			return 0
		}
		ticks := cpuTicks(before)
		processes, _ := procfs.AllProcs()
		for _, p := range processes {
			if child, err := p.Stat(); err == nil && child.PPID == pid {
				ticks += cpuTicks(child)
			}
		}
		// A child that was waited for meanwhile counts twice or not at all.
		if after, err := readStat(pid); err == nil && after.CUTime == before.CUTime && after.CSTime == before.CSTime {
			return time.Duration(ticks) * clockTick
		}
	}
	return 0
}

// clockTick is the unit of times in /proc/PID/stat, USER_HZ, which is 100 on every
// architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuTicks is the CPU of a process and of its children that have ended and were
// waited for.
func cpuTicks(s procfs.ProcStat) int { return int(s.UTime+s.STime) + s.CUTime + s.CSTime }
