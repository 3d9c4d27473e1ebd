//go:build race

package zzshakedown

const race = true
