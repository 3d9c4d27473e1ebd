//go:build !race

package zzshakedown

const race = false
