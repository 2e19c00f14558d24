-- Accounts, families of refresh tokens, and failed logins.

CREATE TABLE accounts (
    id            uuid PRIMARY KEY,
    email         text NOT NULL UNIQUE CHECK (email = lower(email) AND char_length(email) <= 254),
    name          text NOT NULL,
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    roles         text[] NOT NULL CHECK (cardinality(roles) >= 1 AND roles <@ '{shopper,merchant,admin}'),
    created_at    timestamptz NOT NULL
);

-- One family per login: every refresh token of it descends from that login, and they are revoked together.
CREATE TABLE families (
    id         uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,   -- of its youngest token
    revoked_at timestamptz,
    revoked_by text CHECK (revoked_by IN ('logout', 'reuse')),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX families_account ON families (account_id);
CREATE INDEX families_expired ON families (expires_at);

CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),   -- SHA-256; the token itself is never stored
    family_id  uuid NOT NULL REFERENCES families ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE UNIQUE INDEX refresh_tokens_one_live ON refresh_tokens (family_id) WHERE used_at IS NULL;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

-- Attempts to log in since the window began, by SHA-256 of the address, whether it has an account or not.
CREATE TABLE login_attempts (
    address_hash bytea PRIMARY KEY CHECK (octet_length(address_hash) = 32),
    attempts     integer NOT NULL CHECK (attempts >= 1),
    began_at     timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX login_attempts_began ON login_attempts (began_at);
