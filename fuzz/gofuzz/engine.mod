module shakedown.engine

go 1.25.0

require github.com/dvyukov/go-fuzz v0.0.0-20220726122315-1d375ef9f9f6

require (
	github.com/elazarl/go-bindata-assetfs v1.0.1 // indirect
	github.com/stephens2424/writerset v1.0.2 // indirect
	golang.org/x/mod v0.38.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/tools v0.48.0 // indirect
)
