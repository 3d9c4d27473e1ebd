CREATE TABLE sessions (
    token text PRIMARY KEY, -- its hash
    owner text        NOT NULL,
    until timestamptz NOT NULL
);

CREATE TABLE accounts (
    id      bigserial PRIMARY KEY,
    owner   text    NOT NULL,
    name    text    NOT NULL,
    balance bigint  NOT NULL CHECK (balance >= 0),
    version int     NOT NULL DEFAULT 1,
    closed  boolean NOT NULL DEFAULT false
);

CREATE INDEX accounts_by_owner ON accounts (owner, id);

CREATE TABLE transfers (
    id     bigserial PRIMARY KEY,
    source bigint NOT NULL REFERENCES accounts,
    target bigint NOT NULL REFERENCES accounts,
    amount bigint NOT NULL CHECK (amount > 0),
    memo   text   NOT NULL
);

CREATE INDEX transfers_by_source ON transfers (source, id);
CREATE INDEX transfers_by_target ON transfers (target, id);

-- Money that is set aside until it is released or the time is up.
CREATE TABLE holds (
    id      bigserial PRIMARY KEY,
    account bigint      NOT NULL REFERENCES accounts,
    amount  bigint      NOT NULL CHECK (amount > 0),
    until   timestamptz NOT NULL
);

-- What was answered to a request with an idempotency key, and which request that was.
CREATE TABLE answers (
    owner   text        NOT NULL,
    key     text        NOT NULL,
    request text        NOT NULL,
    answer  text        NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (owner, key)
);
