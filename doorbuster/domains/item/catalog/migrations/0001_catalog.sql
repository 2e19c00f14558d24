-- Items, their options and their pictures.

CREATE TABLE items (
    id           uuid PRIMARY KEY,
    handle       text NOT NULL UNIQUE CHECK (char_length(handle) BETWEEN 1 AND 255),
    title        text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 255),
    description  text NOT NULL CHECK (octet_length(description) <= 65536),
    brand        text NOT NULL,
    category     text NOT NULL,
    tags         text[] NOT NULL,
    status       text NOT NULL CHECK (status IN ('draft', 'active', 'archived')),
    option_names text[] NOT NULL CHECK (cardinality(option_names) <= 3),
    version      bigint NOT NULL CHECK (version >= 1),
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL CHECK (updated_at >= created_at)
);
CREATE INDEX items_newest ON items (created_at DESC, id DESC) WHERE status = 'active';
CREATE INDEX items_category ON items (category, created_at DESC, id DESC) WHERE status = 'active';
CREATE INDEX items_brand ON items (brand, created_at DESC, id DESC) WHERE status = 'active';

-- An option is never deleted: orders, prices and stock name it. One that vanished from its item is not active.
CREATE TABLE options (
    id            uuid PRIMARY KEY,
    item_id       uuid NOT NULL REFERENCES items,
    position      integer NOT NULL CHECK (position >= 0),
    option_values text[] NOT NULL CHECK (cardinality(option_values) <= 3),
    sku           text NOT NULL,
    barcode       text,
    active        boolean NOT NULL
);
CREATE INDEX options_item ON options (item_id, position);
CREATE UNIQUE INDEX options_distinct ON options (item_id, option_values) WHERE active;

CREATE TABLE media (
    item_id  uuid NOT NULL REFERENCES items,
    position integer NOT NULL CHECK (position >= 0),
    url      text NOT NULL CHECK (url LIKE 'https://%' OR url LIKE '/api/v1/catalog/media/%'),
    alt      text NOT NULL,
    PRIMARY KEY (item_id, position)
);
