module github.com/shakedown-go/shakedown

go 1.26
