package spec

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Allowed reports whether a host, with or without a port, is this machine or one of those
// that a description allows.
func Allowed(allow []string, host string) bool {
	return Loopback(host) || slices.ContainsFunc(allow, func(a string) bool { return strings.EqualFold(bare(a), bare(host)) })
}

// Loopback reports whether a host, with or without a port, is this machine for sure: a
// literal loopback address or localhost. Other names are not resolved: what they lead to
// may change.
func Loopback(host string) bool {
	host = bare(host)
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// bare returns a host without its port and brackets.
func bare(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

var (
	authority = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://([^/?#\s"'<>]*)`)
	hostName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\.?$`)
	letter    = regexp.MustCompile(`[A-Za-z]`)
)

// hosts returns the hosts that a text leads to, as far as that is plain: those of URLs,
// and of host:port. A word that could be many things is a host only where its port is
// none of the system's own: db:5432 is one, and shop:1 is not.
func hosts(text string) []string {
	var out []string
	for _, m := range authority.FindAllStringSubmatch(text, -1) {
		at := m[1][strings.LastIndexByte(m[1], '@')+1:]
		for _, h := range strings.Split(at, ",") {
			out = append(out, bare(h))
		}
	}
	rest := authority.ReplaceAllString(text, " ")
	for _, word := range strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;|=()@'\"<>{}/", r) }) {
		host, digits, err := net.SplitHostPort(word)
		port, bad := strconv.ParseUint(digits, 10, 16)
		if err != nil || bad != nil || port == 0 {
			continue
		}
		named := hostName.MatchString(host) && letter.MatchString(host) && (strings.Contains(host, ".") || port >= 1024)
		if named || net.ParseIP(host) != nil {
			out = append(out, host)
		}
	}
	// To listen everywhere leads nowhere.
	return slices.DeleteFunc(out, func(h string) bool { return h == "" || net.ParseIP(h).IsUnspecified() })
}
