package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	statusPoll   = 20 * time.Millisecond
	answerWait   = 10 * time.Second // from "ready" to the first answer
	orphansWait  = 20 * time.Second
	orphansPause = 200 * time.Millisecond
	waitingNote  = 10 * time.Second // between log lines while waiting
)

// postmaster is a running server as its pid file describes it.
type postmaster struct {
	pid    int
	port   int    // 0 until known
	status string // "starting", "ready", "stopping", ""
}

var (
	// errPortTaken means that another program took the port since it was chosen.
	errPortTaken = errors.New("port is taken")
	// errOrphans means that processes of a killed server still use the data.
	errOrphans = errors.New("processes of an earlier server still use the data: end them and start again")
)

// running returns the live server of the data folder. The format of the file:
// https://github.com/postgres/postgres/blob/REL_17_STABLE/src/include/utils/pidfile.h
func (s *Server) running() (postmaster, bool) {
	raw, err := os.ReadFile(s.pidFile())
	if err != nil {
		return postmaster{}, false
	}
	lines := strings.Split(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 || !isPostmaster(pid, s.home.path(dataName)) {
		return postmaster{}, false
	}
	pm := postmaster{pid: pid}
	if len(lines) > 3 {
		if port, err := strconv.Atoi(strings.TrimSpace(lines[3])); err == nil {
			pm.port = port
		}
	}
	if len(lines) > 7 {
		pm.status = strings.TrimSpace(lines[7])
	}
	return pm, true
}

// ensureRunning adopts the server of the data folder, waiting while it starts,
// recovers or stops, or starts one on the first of ports that is free. The
// caller holds the start lock.
func (s *Server) ensureRunning(ctx context.Context, ports []int) error {
	var err error
	var readySince, noted time.Time
	for {
		pm, alive := s.running()
		if !alive {
			return s.startPostmaster(ctx, ports)
		}
		if pm.status == "ready" && pm.port != 0 {
			if readySince.IsZero() {
				readySince = time.Now()
			}
			s.port = pm.port
			if err = s.ping(ctx); err == nil {
				s.log.Debug("database adopted", zap.Int("pid", pm.pid), zap.Int("port", pm.port))
				return s.knowBinaries()
			}
			if isWrongPassword(err) || time.Since(readySince) > answerWait {
				return fmt.Errorf("connect to the running database in %s (process %d): %w", s.home.dir, pm.pid, err)
			}
		}
		if time.Since(noted) > waitingNote {
			noted = time.Now()
			s.log.Info("waiting for the database", zap.Int("pid", pm.pid), zap.String("status", pm.status))
		}
		if err := pause(ctx, statusPoll); err != nil {
			return fmt.Errorf("wait for the database in %s (process %d): %w", s.home.dir, pm.pid, err)
		}
	}
}

// knowBinaries notes where an adopted server's programs are, for PSQL.
func (s *Server) knowBinaries() error {
	raw, err := os.ReadFile(s.home.path(dataName) + "/postmaster.opts")
	if err != nil {
		return nil
	}
	program, _, _ := strings.Cut(string(raw), " ")
	s.binaries.Dir = strings.TrimSuffix(program, "/postgres")
	return nil
}

// startPostmaster starts a server and waits until it is ready.
func (s *Server) startPostmaster(ctx context.Context, ports []int) error {
	var err error
	if s.binaries, err = s.resolve(ctx); err != nil {
		return err
	}
	if err := s.ensureData(ctx); err != nil {
		return err
	}
	if err := s.removeStalePidFile(ctx); err != nil {
		return fmt.Errorf("remove the pid file of a dead server: %w", err)
	}
	if err = s.launchOnOneOf(ctx, ports); err == nil {
		s.log.Info("database started", zap.String("data_dir", s.home.dir), zap.Int("port", s.port),
			zap.String("version", s.binaries.Version))
		return nil
	}
	if _, alive := s.running(); alive && ctx.Err() == nil && !isWrongPassword(err) {
		// A start whose process was killed got there first.
		return s.ensureRunning(ctx, ports)
	}
	return fmt.Errorf("start the database in %s: %w", s.home.dir, err)
}

// launchOnOneOf tries the ports in turn. After a postmaster was killed, the next
// can't start until the last of its children has noticed, usually at once.
func (s *Server) launchOnOneOf(ctx context.Context, ports []int) error {
	err := fmt.Errorf("no port of %s is free", loopback)
	deadline := time.Now().Add(orphansWait)
	for len(ports) > 0 {
		s.port = ports[0]
		err = s.launch(ctx)
		switch {
		case errors.Is(err, errPortTaken):
			ports = ports[1:]
		case errors.Is(err, errOrphans) && time.Now().Before(deadline):
			if err := pause(ctx, orphansPause); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return err
}

// removeStalePidFile removes a pid file with nobody behind it: Postgres takes any
// live process with that number for a server and refuses to start. One without
// a number is either being written by a start whose process was killed, or what
// a full disk left; which, time tells.
func (s *Server) removeStalePidFile(ctx context.Context) error {
	path := s.pidFile()
	for range 50 {
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(raw) > 0 {
			break
		}
		if err := pause(ctx, statusPoll); err != nil {
			return err
		}
	}
	if _, alive := s.running(); alive {
		return nil // the launch will fail, and find that server
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Server) pidFile() string { return s.home.path(dataName) + "/postmaster.pid" }

// launch runs the postmaster on s.port until it is ready or gone.
func (s *Server) launch(ctx context.Context) error {
	logFile, logStart, err := s.openServerLog()
	if err != nil {
		return err
	}
	defer logFile.Close()
	// Not ctx: the server outlives the call, and maybe this process.
	cmd := s.account.command(context.WithoutCancel(ctx), s.binaries.path("postgres"))
	data, release, err := s.account.reach(cmd, s.home.path(dataName))
	if err != nil {
		return err
	}
	defer release()
	cmd.Args = append(cmd.Args, s.serverArgs(data)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := reap(cmd)
	for {
		if pm, alive := s.running(); alive && pm.status == "ready" {
			return s.ping(ctx)
		}
		select {
		case err := <-exited:
			return s.whyExited(err, logStart)
		case <-ctx.Done():
			// It was never ready, so nobody can miss it.
			return errors.Join(ctx.Err(), s.abort(cmd, exited))
		case <-time.After(statusPoll):
		}
	}
}

// reap waits for the server in the background, so that it leaves no zombie if it
// ends before us. The goroutine ends with the server or with the process.
func reap(cmd *exec.Cmd) <-chan error {
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return exited
}

func (s *Server) serverArgs(data string) []string {
	args := []string{"-D", data, "-p", strconv.Itoa(s.port)}
	settings := map[string]string{
		"listen_addresses":        loopback,
		"unix_socket_directories": "",
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"log_checkpoints":         "off",
		"log_line_prefix":         "%m [%p] ",
	}
	for name, value := range s.opts.Settings {
		settings[name] = value
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}
