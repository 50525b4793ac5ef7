package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

const (
	connectTime = 10 * time.Second // one attempt to use the running server
	statusPoll  = 20 * time.Millisecond
	pidFileWait = 2 * time.Second  // for a server just started to write its pid file
	orphansWait = 20 * time.Second // for the processes of a killed server to end
	waitingNote = 10 * time.Second // between log lines while waiting

	// https://www.postgresql.org/docs/current/errcodes-appendix.html
	cannotConnectNow   = "57P03" // it is starting, recovering or stopping
	tooManyConnections = "53300"
)

// ensureData makes the data folder if there is none. initdb works in a folder
// beside it, which takes the name only once it is complete: a crash at any
// moment leaves either no data folder or a whole one.
func (s *Server) ensureData(ctx context.Context) error {
	data := s.home.path(dataName)
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	began := time.Now()
	staging, err := os.MkdirTemp(s.home.dir, stagingName) // mode 0700
	if err != nil {
		return fmt.Errorf("make the data folder: %w", explain(err))
	}
	defer os.RemoveAll(staging)
	// In a file, since arguments are visible to everybody on the machine.
	passwordFile := filepath.Join(staging, passwordName)
	if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o400); err != nil {
		return fmt.Errorf("make the data folder: %w", explain(err))
	}
	if other := s.account.other; other != nil {
		for _, path := range []string{passwordFile, staging} {
			if err := os.Chown(path, int(other.Uid), int(other.Gid)); err != nil {
				return fmt.Errorf("%w: root can't hand files to another user here: run as another user, or set database.url", err)
			}
		}
	}
	cmd := s.account.command(ctx, s.binaries.path("initdb"))
	dir, release, err := s.account.reach(cmd, staging)
	if err != nil {
		return err
	}
	defer release()
	cmd.Args = append(cmd.Args,
		"--pgdata="+dir+"/"+dataName,
		"--username="+roleName,
		"--pwfile="+dir+"/"+passwordName,
		"--auth=scram-sha-256",
		"--encoding=UTF8",
		"--no-locale", // the same order of strings on every machine
	)
	if s.opts.Settings["fsync"] == "off" {
		cmd.Args = append(cmd.Args, "--no-sync")
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make a database in %s: %w", s.home.dir, describe(ctx, "initdb", err, said.String()))
	}
	if err := os.Rename(filepath.Join(staging, dataName), data); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	s.log.Info("database created", zap.String("data_dir", s.home.dir),
		zap.String("version", s.binaries.Version), zap.Duration("elapsed", time.Since(began)))
	return nil
}

func (s *Server) pidFile() string { return s.home.path(dataName) + "/postmaster.pid" }

// running returns the process id and the port of the live server of the data
// folder. The format of the file:
// https://github.com/postgres/postgres/blob/REL_17_STABLE/src/include/utils/pidfile.h
func (s *Server) running() (pid, port int, alive bool) {
	raw, err := os.ReadFile(s.pidFile())
	lines := strings.Split(string(raw), "\n")
	if err != nil || len(lines) < 4 {
		return 0, 0, false
	}
	pid, pidErr := strconv.Atoi(strings.TrimSpace(lines[0]))
	port, portErr := strconv.Atoi(strings.TrimSpace(lines[3]))
	return pid, port, pidErr == nil && portErr == nil && isPostmaster(pid, s.home.path(dataName))
}

// ensureRunning adopts the server of the data folder, waiting while it starts,
// recovers or stops, or else starts one on the given port. It returns the port
// that the server is on. The caller holds the start lock.
func (s *Server) ensureRunning(ctx context.Context, port int) (int, error) {
	orphansUntil, noted := time.Now().Add(orphansWait), time.Now()
	for {
		pid, runningOn, alive := s.running()
		var err error
		if alive {
			if err = s.ensureDatabase(ctx, runningOn); err == nil {
				return runningOn, nil
			}
			var refusal *pgconn.PgError
			if errors.As(err, &refusal) && refusal.Code != cannotConnectNow && refusal.Code != tooManyConnections {
				return 0, fmt.Errorf("use the running database in %s (process %d): %w", s.home.dir, pid, explain(err))
			}
		} else if err = s.launch(ctx, port); err != nil {
			// A start whose process was killed may have got there first, and
			// recovery may take longer than pg_ctl waits. Orphans usually end
			// at once.
			_, _, alive = s.running()
			if !alive && (!errors.Is(err, errOrphans) || time.Now().After(orphansUntil)) {
				return 0, fmt.Errorf("start the database in %s: %w", s.home.dir, err)
			}
		}
		if time.Since(noted) > waitingNote {
			noted = time.Now()
			s.log.Info("waiting for the database", zap.Int("pid", pid), zap.Error(err))
		}
		if err := pause(ctx, statusPoll); err != nil {
			return 0, fmt.Errorf("wait for the database in %s (process %d): %w", s.home.dir, pid, err)
		}
	}
}

// launch has pg_ctl start a server and wait until it is ready.
func (s *Server) launch(ctx context.Context, port int) error {
	if err := s.removeStalePidFile(ctx); err != nil {
		return fmt.Errorf("remove the pid file of a dead server: %w", err)
	}
	if err := s.trimServerLog(); err != nil {
		return err
	}
	logFile, err := os.OpenFile(s.home.path(logName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", explain(err))
	}
	defer logFile.Close()
	logStart, err := logFile.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("-p %d -c listen_addresses=%s -c unix_socket_directories= -c logging_collector=off -c log_checkpoints=off", port, loopback)
	for name, value := range s.opts.Settings { // the last of two counts
		options += " -c " + shellQuote(name+"="+value)
	}
	cmd, release, err := s.pgCtl(ctx, "start", "--wait", "--options="+options)
	if err != nil {
		return err
	}
	defer release()
	// The server writes both of its outputs where pg_ctl writes the first. With
	// --log a shell would read the name of the file.
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = logFile, &said
	// Without pg_ctl the server would come up all the same. So the server is
	// stopped instead, and pg_ctl sees it end. Nobody can miss it yet.
	cmd.Cancel = func() error {
		for began := time.Now(); time.Since(began) < pidFileWait; time.Sleep(statusPoll) {
			if _, _, alive := s.running(); alive {
				break
			}
		}
		return s.stop()
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		written, _ := io.ReadAll(io.NewSectionReader(logFile, logStart, maxLogBytes))
		return fmt.Errorf("%w; see %s", describe(ctx, "pg_ctl", err, said.String()+string(written)), logFile.Name())
	}
	s.log.Info("database started", zap.String("data_dir", s.home.dir), zap.Int("port", port), zap.String("version", s.binaries.Version))
	return nil
}

// removeStalePidFile removes a pid file with nobody behind it: Postgres takes any
// live process with that number for a server and refuses to start. An empty one
// is either being written by a start whose process was killed, or what a full
// disk left; which, time tells.
func (s *Server) removeStalePidFile(ctx context.Context) error {
	info, err := os.Stat(s.pidFile())
	if err == nil && info.Size() == 0 {
		err = pause(ctx, time.Second)
	}
	if _, _, alive := s.running(); err == nil && !alive {
		err = os.Remove(s.pidFile())
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// stop has pg_ctl end the server: clients are cut off, work in hand is rolled
// back. If that takes too long it is told to drop everything and will recover
// from its log at the next start; nothing committed is lost either way.
// https://www.postgresql.org/docs/current/server-shutdown.html
func (s *Server) stop() error {
	ctx := context.Background() // the timeouts bound it
	began := time.Now()
	var err error
	for _, how := range [][]string{{"--mode=fast", "--timeout=4"}, {"--mode=immediate", "--timeout=2"}} {
		if _, _, alive := s.running(); !alive {
			return nil
		}
		cmd, release, prepareErr := s.pgCtl(ctx, append(how, "stop")...)
		if prepareErr != nil {
			return prepareErr
		}
		var said []byte
		said, err = cmd.CombinedOutput()
		release()
		if err == nil {
			s.log.Info("database stopped", zap.Duration("elapsed", time.Since(began)))
			return nil
		}
		err = describe(ctx, "pg_ctl", err, string(said))
	}
	return fmt.Errorf("the database in %s does not stop: see %s: %w", s.home.dir, s.home.path(logName), err)
}

// pgCtl prepares a call of pg_ctl, which the caller releases once it has
// started. The path of the data goes in the environment: an argument would also
// go through a shell, which would expand it.
func (s *Server) pgCtl(ctx context.Context, args ...string) (cmd *exec.Cmd, release func(), err error) {
	cmd = s.account.command(ctx, s.binaries.path("pg_ctl"), append(args, "--silent")...)
	data, release, err := s.account.reach(cmd, s.home.path(dataName))
	cmd.Env = append(cmd.Env, "PGDATA="+data)
	return cmd, release, err
}

// ensureDatabase connects to the server on port and makes the database if it is
// missing. SCRAM proves both sides: a server that answers holds our password.
func (s *Server) ensureDatabase(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url(port, "postgres")) // pgx keeps passwords out of its errors
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	const find = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if err := conn.QueryRow(ctx, find, databaseName).Scan(&exists); err != nil || exists {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+databaseName); err != nil {
		return fmt.Errorf("make database %s: %w", databaseName, err)
	}
	return nil
}

// pause waits for d or until ctx ends, and returns ctx's error then.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
