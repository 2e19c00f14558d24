-- What the catalogue sells now, from its facts: an option that was taken off sale has no price any more.

CREATE TABLE listing (
    item_id    uuid PRIMARY KEY,
    version    bigint NOT NULL,
    option_ids uuid[] NOT NULL      -- those on sale; none for an item that is a draft or archived
) WITH (fillfactor = 80);
