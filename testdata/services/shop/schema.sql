CREATE TABLE items (
    sku   text PRIMARY KEY,
    name  text NOT NULL,
    kind  text NOT NULL CHECK (kind IN ('simple', 'digital', 'bundle')),
    price int  NOT NULL CHECK (price >= 0),
    stock int  NOT NULL CHECK (stock >= 0)
);

CREATE TABLE parts (
    bundle text NOT NULL REFERENCES items,
    sku    text NOT NULL REFERENCES items,
    qty    int  NOT NULL CHECK (qty > 0),
    PRIMARY KEY (bundle, sku)
);

CREATE TABLE campaigns (
    name        text PRIMARY KEY,
    max_percent int NOT NULL
);

CREATE TABLE cart (
    owner text NOT NULL,
    sku   text NOT NULL REFERENCES items,
    qty   int  NOT NULL CHECK (qty > 0),
    PRIMARY KEY (owner, sku)
);

CREATE TABLE orders (
    id     bigserial PRIMARY KEY,
    owner  text   NOT NULL,
    total  bigint NOT NULL,
    status text   NOT NULL CHECK (status IN ('open', 'paid', 'cancelled'))
);

CREATE TABLE order_lines (
    order_id bigint NOT NULL REFERENCES orders,
    sku      text   NOT NULL REFERENCES items,
    qty      int    NOT NULL,
    price    int    NOT NULL,
    PRIMARY KEY (order_id, sku)
);

CREATE TABLE payments (
    id       bigserial PRIMARY KEY,
    order_id bigint NOT NULL UNIQUE REFERENCES orders,
    amount   bigint NOT NULL
);

-- What was answered to a request with an idempotency key, and which request that was.
CREATE TABLE answers (
    owner   text NOT NULL,
    key     text NOT NULL,
    request text NOT NULL,
    answer  text,
    PRIMARY KEY (owner, key)
);

INSERT INTO items VALUES
    ('mug',       'Mug',             'simple',   900, 1000),
    ('pen',       'Pen',             'simple',   150, 5000),
    ('lamp',      'Lamp',            'simple',  4200,   40),
    ('poster',    'Poster',          'simple',  1500,    3),
    ('ebook',     'E-book',          'digital', 1200, 100000),
    ('course',    'Course',          'digital', 9900, 100000),
    ('desk-set',  'Desk set',        'bundle',  4900,   20),
    ('gift-box',  'Gift box',        'bundle',  2500,   50);

INSERT INTO parts VALUES
    ('desk-set', 'lamp', 1),
    ('desk-set', 'pen', 3),
    ('gift-box', 'mug', 1),
    ('gift-box', 'ebook', 1);

INSERT INTO campaigns VALUES ('SPRING', 20), ('LOYAL', 30), ('STAFF', 50);
