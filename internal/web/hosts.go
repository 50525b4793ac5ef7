package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// knownHost refuses requests that call the site by a name that is not its own.
//
// A page anywhere in the web can point a name of its own to 127.0.0.1 and then
// read, in the browser of someone on this machine, what listens there: to the
// browser it is all one site (DNS rebinding). What it cannot do is call us by
// another name than that one.
func knownHost(at *site, configured []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostKnown(r.Host, at.loopback, configured) {
			answerText(w, http.StatusMisdirectedRequest, "this syncd is not called %.100q; if it should be, add the name to http.hosts", hostName(r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostKnown judges the Host of a request. Beyond loopback, where reading takes a
// credential that a browser has for the right name alone, addresses pass (probes
// know no name), and names too unless some are configured.
func hostKnown(hostport string, loopback bool, configured []string) bool {
	host := hostName(hostport)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(configured, host) {
		return true
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return !loopback || address.Unmap().IsLoopback()
	}
	return !loopback && len(configured) == 0
}

// hostName is a Host without port and brackets, in lower case.
func hostName(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
