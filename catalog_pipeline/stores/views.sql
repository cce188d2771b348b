-- The tables of a home as views, in plain DuckDB SQL (made with DuckDB 1.5). Nothing of the
-- program is needed, and nothing is written.
--
-- In the shell of DuckDB:                     In Python:
--   SET VARIABLE home = '/srv/catalog';         connection = duckdb.connect()
--   .read views.sql                             connection.execute("SET VARIABLE home = ?", [home])
--   FROM nights;                                connection.execute(open("views.sql").read())
--                                               connection.sql("FROM nights")
--
-- home is the folder of all state. With the extension httpfs it may be 's3://bucket/prefix'.
--
-- The files are looked for once, when this text runs: run it again to see later nights. A query
-- beside a publication may meet two states of one night and fail; over files that never change
-- it cannot. `catalog-pipeline query` copies the files first. Without it, name such files
-- yourself before this text runs, and they are not looked for:
--   SET VARIABLE night_files = ['...', '...'];   -- as `catalog-pipeline manifest --files` prints
--
-- A home without a night, a learning log or an index gives views without rows. Files of earlier
-- schemas have the value of `catalog_pipeline/stores/columns.py` in columns that they lack.

-- Paths, not patterns: a *, ? or [ stands for itself.
CREATE OR REPLACE MACRO literally(path) AS regexp_replace(path, '[*?[]', '[\0]', 'g');

SET VARIABLE night_files = coalesce(getvariable('night_files')::VARCHAR[], (
    SELECT list(literally(file) ORDER BY file)
    FROM glob(literally(getvariable('home')) || '/manifest/dt=*/part-*.parquet')), []);
SET VARIABLE quarantine_files = coalesce(getvariable('quarantine_files')::VARCHAR[], (
    SELECT list(literally(file) ORDER BY file)
    FROM glob(literally(getvariable('home')) || '/quarantine/dt=*/part-*.parquet')), []);
SET VARIABLE learning_files = coalesce(getvariable('learning_files')::VARCHAR[], (
    SELECT list(literally(file) ORDER BY file)
    FROM glob(literally(getvariable('home')) || '/learning/dt=*/part-*.parquet')), []);
SET VARIABLE index_files = coalesce(getvariable('index_files')::VARCHAR[], (
    SELECT list(literally(file))
    FROM glob(literally(getvariable('home')) || '/catalog/index.parquet')), []);
SET VARIABLE state_files = coalesce(getvariable('state_files')::VARCHAR[], (
    SELECT list(literally(file) ORDER BY file)
    FROM glob(literally(getvariable('home')) || '/_versions/manifest/dt=*/*.parquet')), []);

-- The rows of the files of a variable. DuckDB refuses to read no file at all, hence the branch.
CREATE OR REPLACE MACRO rows_of(files) AS TABLE FROM query(if(len(getvariable(files)) > 0,
    'FROM read_parquet(getvariable(''' || files || '''), union_by_name = true, '
        || 'hive_partitioning = false, filename = true)',
    'SELECT NULL::VARCHAR AS filename LIMIT 0'));
CREATE OR REPLACE MACRO stamps_of(files) AS TABLE FROM query(if(len(getvariable(files)) > 0,
    'SELECT file_name, decode(key) AS key, decode(value) AS value '
        || 'FROM parquet_kv_metadata(getvariable(''' || files || '''))',
    'SELECT NULL::VARCHAR AS file_name, NULL::VARCHAR AS key, NULL::VARCHAR AS value LIMIT 0'));

-- Every column, so that it is there where no file has it.
CREATE OR REPLACE MACRO picture_rows(files) AS TABLE
(SELECT NULL::VARCHAR AS image_id, NULL::VARCHAR AS path, NULL::VARCHAR AS sha256,
        NULL::DATE AS day, NULL::VARCHAR AS job_id, NULL::VARCHAR AS prompt,
        NULL::VARCHAR[] AS skus, NULL::VARCHAR AS layout, NULL::BIGINT AS seed,
        NULL::VARCHAR AS sampler, NULL::INTEGER AS steps, NULL::DOUBLE AS guidance,
        NULL::INTEGER AS width, NULL::INTEGER AS height, NULL::VARCHAR AS base_model_hash,
        NULL::VARCHAR AS collection, NULL::VARCHAR AS adapter_version,
        NULL::VARCHAR AS memory_version, NULL::MAP(VARCHAR, DOUBLE) AS scores,
        NULL::BOOLEAN AS superseded, NULL::TIMESTAMPTZ AS created_utc,
        NULL::INTEGER AS schema_version, NULL::INTEGER AS attempts, NULL::VARCHAR AS verdict,
        NULL::VARCHAR AS mode, NULL::VARCHAR AS mode_reason,
        NULL::MAP(VARCHAR, VARCHAR) AS photos,
        NULL::MAP(VARCHAR, STRUCT("left" INTEGER, top INTEGER, "right" INTEGER, bottom INTEGER))
            AS boxes,
        NULL::DOUBLE AS strength, NULL::DOUBLE AS real_pixels, NULL::VARCHAR AS plan_hash,
        NULL::VARCHAR AS policy, NULL::VARCHAR AS negative_prompt, NULL::VARCHAR AS attention,
        NULL::DOUBLE AS render_seconds, NULL::VARCHAR AS reason,
        NULL::MAP(VARCHAR, VARCHAR) AS concepts,
        NULL::MAP(VARCHAR, STRUCT(collection VARCHAR, adapter_version VARCHAR)) AS sources,
        NULL::VARCHAR AS pixels_sha256,
        NULL::VARCHAR AS filename
 LIMIT 0)
UNION ALL BY NAME FROM rows_of(files);

-- Columns that are younger than a file, with the value that its rows have.
CREATE OR REPLACE MACRO whole_rows(files) AS TABLE
SELECT * REPLACE (
    coalesce(attempts, 1) AS attempts, coalesce(verdict, 'unscored') AS verdict,
    coalesce(mode, 'learned') AS mode, coalesce(mode_reason, '') AS mode_reason,
    coalesce(photos, MAP {}) AS photos, coalesce(boxes, MAP {}) AS boxes,
    coalesce(strength, 1.0) AS strength, coalesce(real_pixels, 0.0) AS real_pixels,
    coalesce(plan_hash, '') AS plan_hash, coalesce(policy, '') AS policy,
    coalesce(negative_prompt, '') AS negative_prompt, coalesce(attention, '{}') AS attention,
    coalesce(render_seconds, 0.0) AS render_seconds, coalesce(reason, '') AS reason,
    coalesce(concepts, MAP {}) AS concepts, coalesce(sources, MAP {}) AS sources,
    coalesce(pixels_sha256, '') AS pixels_sha256)
FROM picture_rows(files);

CREATE OR REPLACE VIEW images AS
SELECT * EXCLUDE (filename), if(superseded, 'superseded', 'current') AS state
FROM whole_rows('night_files');
COMMENT ON VIEW images IS 'one row per published picture, those that are superseded too';
COMMENT ON COLUMN images.state IS 'current or superseded';

CREATE OR REPLACE VIEW superseded AS
SELECT image_id, day, skus, reason, verdict, path, adapter_version, plan_hash, created_utc
FROM images WHERE superseded;
COMMENT ON VIEW superseded IS 'one row per published picture that is no longer asked for';

CREATE OR REPLACE VIEW held_back AS
SELECT * EXCLUDE (filename), 'held back' AS state FROM whole_rows('quarantine_files');
COMMENT ON VIEW held_back IS 'one row per picture that did not pass the quality gate; no reader of the manifest meets it';
COMMENT ON COLUMN held_back.superseded IS 'true: the plan in force no longer asks for it';
COMMENT ON COLUMN held_back.state IS 'held back';

CREATE OR REPLACE VIEW products AS
SELECT image_id, day, state, sku, place,
       coalesce(sources[sku].collection, collection) AS collection,
       coalesce(sources[sku].adapter_version, adapter_version) AS adapter_version, created_utc,
       concepts[sku] AS concept_sha256, photos[sku] AS photo_sha256,
       boxes[sku]."left" AS "left", boxes[sku].top AS top,
       boxes[sku]."right" AS "right", boxes[sku].bottom AS bottom
FROM (SELECT *, unnest(skus) AS sku, generate_subscripts(skus, 1)::INTEGER AS place
      FROM (FROM images UNION ALL BY NAME FROM held_back));
COMMENT ON VIEW products IS 'one row per picture (image_id and state) and product that it names';
COMMENT ON COLUMN products.state IS 'of the picture: current, superseded or held back';
COMMENT ON COLUMN products.place IS '1 is the leftmost product';
COMMENT ON COLUMN products.collection IS 'whose version drew the product';
COMMENT ON COLUMN products.adapter_version IS 'version of the collection that drew the product';
COMMENT ON COLUMN products.concept_sha256 IS 'of what it was rendered from, as in learning; null in rows of schema 3 and earlier';
COMMENT ON COLUMN products.photo_sha256 IS 'of the photo that stands in the picture; null when it is drawn';
COMMENT ON COLUMN products."left" IS 'pixels; null when the product is drawn, as are the other sides';
COMMENT ON COLUMN products.top IS 'pixels';
COMMENT ON COLUMN products."right" IS 'pixels, exclusive';
COMMENT ON COLUMN products.bottom IS 'pixels, exclusive';

CREATE OR REPLACE VIEW scores AS
SELECT image_id, day, state,
       if(of_product, regexp_extract(key, '[^/]+$'), NULL) AS sku,
       if(of_product, regexp_replace(key, '/[^/]+$', ''), key) AS score, value
FROM (SELECT image_id, day, state, entry.key AS key, entry.value AS value,
             contains(entry.key, '/')
                 AND list_contains(skus, regexp_extract(entry.key, '[^/]+$')) AS of_product
      FROM (SELECT image_id, day, state, skus, unnest(map_entries(scores)) AS entry
            FROM (FROM images UNION ALL BY NAME FROM held_back)));
COMMENT ON VIEW scores IS 'one row per picture (image_id and state), score and product: the map scores of images as a long table';
COMMENT ON COLUMN scores.state IS 'of the picture: current, superseded or held back';
COMMENT ON COLUMN scores.sku IS 'the product that it is of; null for a score of the whole picture';
COMMENT ON COLUMN scores.score IS 'its name, without the product';
COMMENT ON COLUMN scores.value IS 'the figure';

CREATE OR REPLACE VIEW catalog AS
SELECT sku, collection, name, class_noun, category, content_hash, learned_hash, photo_count,
       bytes, first_seen_utc, newest_modified_utc, status, reason,
       coalesce(learned_version, '') AS learned_version, learned_utc,
       coalesce(photos_used, 0) AS photos_used, coalesce(left_out, MAP {}) AS left_out
FROM ((SELECT NULL::VARCHAR AS sku, NULL::VARCHAR AS collection, NULL::VARCHAR AS name,
              NULL::VARCHAR AS class_noun, NULL::VARCHAR AS category,
              NULL::VARCHAR AS content_hash, NULL::VARCHAR AS learned_hash,
              NULL::INTEGER AS photo_count, NULL::BIGINT AS bytes,
              NULL::TIMESTAMPTZ AS first_seen_utc, NULL::TIMESTAMPTZ AS newest_modified_utc,
              NULL::VARCHAR AS status, NULL::VARCHAR AS reason,
              NULL::VARCHAR AS learned_version, NULL::TIMESTAMPTZ AS learned_utc,
              NULL::INTEGER AS photos_used, NULL::MAP(VARCHAR, VARCHAR) AS left_out
       LIMIT 0)
      UNION ALL BY NAME FROM rows_of('index_files'));
COMMENT ON VIEW catalog IS 'one row per SKU ever seen: the index';

CREATE OR REPLACE VIEW left_out AS
SELECT sku, name, entry.key AS photo, entry.value AS reason
FROM (SELECT sku, name, unnest(map_entries(left_out)) AS entry FROM catalog);
COMMENT ON VIEW left_out IS 'one row per photo that the last attempt at learning its SKU did not use';
COMMENT ON COLUMN left_out.photo IS 'its file, below the catalog''s root';
COMMENT ON COLUMN left_out.reason IS 'why it was not used';

CREATE OR REPLACE VIEW learning AS
SELECT attempt_id, sku, collection, status, reason, version, concept_sha256, ended_utc, seconds,
       name, class_noun, content_hash, photos_hash, config_hash, base_model_hash, code_version,
       settings, photos, metrics, imported_from
FROM ((SELECT NULL::VARCHAR AS attempt_id, NULL::VARCHAR AS sku, NULL::VARCHAR AS collection,
              NULL::VARCHAR AS status, NULL::VARCHAR AS reason, NULL::VARCHAR AS version,
              NULL::VARCHAR AS concept_sha256, NULL::TIMESTAMPTZ AS ended_utc,
              NULL::DOUBLE AS seconds, NULL::VARCHAR AS name, NULL::VARCHAR AS class_noun,
              NULL::VARCHAR AS content_hash, NULL::VARCHAR AS photos_hash,
              NULL::VARCHAR AS config_hash, NULL::VARCHAR AS base_model_hash,
              NULL::VARCHAR AS code_version, NULL::VARCHAR AS settings,
              NULL::STRUCT("key" VARCHAR, sha256 VARCHAR, reason VARCHAR)[] AS photos,
              NULL::MAP(VARCHAR, DOUBLE) AS metrics, NULL::VARCHAR AS imported_from
       LIMIT 0)
      UNION ALL BY NAME FROM rows_of('learning_files'));
COMMENT ON VIEW learning IS 'one row per attempt at learning a SKU: the learning log';

CREATE OR REPLACE VIEW learning_photos AS
SELECT attempt_id, sku, ended_utc, status, photo."key" AS photo,
       nullif(photo.sha256, '') AS photo_sha256, photo.reason = '' AS used,
       photo.reason AS reason
FROM (SELECT *, unnest(photos) AS photo FROM learning);
COMMENT ON VIEW learning_photos IS 'one row per attempt at learning a SKU and photo of it';
COMMENT ON COLUMN learning_photos.photo IS 'its file, below the catalog''s root';
COMMENT ON COLUMN learning_photos.photo_sha256 IS 'of the file; null for one that was not read';
COMMENT ON COLUMN learning_photos.used IS 'whether the attempt learned from it';
COMMENT ON COLUMN learning_photos.reason IS 'why it was not used; empty when it was';

CREATE OR REPLACE VIEW coverage AS
SELECT coalesce(c.sku, shown.sku) AS sku, c.name AS name, c.collection AS collection,
       c.status AS status, coalesce(shown.images, 0) AS images,
       coalesce(shown.alone, 0) AS alone, coalesce(shown.nights, 0) AS nights,
       shown.first_day AS first_day, shown.last_day AS last_day,
       coalesce(held.images, 0) AS held_back
FROM catalog c
FULL JOIN (SELECT sku, count(DISTINCT image_id) AS images,
                  count(DISTINCT image_id) FILTER (named = 1) AS alone,
                  count(DISTINCT day) AS nights, min(day) AS first_day, max(day) AS last_day
           FROM (SELECT image_id, day, len(skus) AS named, unnest(skus) AS sku
                 FROM images WHERE NOT superseded)
           GROUP BY sku) shown ON shown.sku = c.sku
LEFT JOIN (SELECT sku, count(DISTINCT image_id) AS images
           FROM (SELECT image_id, unnest(skus) AS sku FROM held_back WHERE NOT superseded)
           GROUP BY sku) held ON held.sku = coalesce(c.sku, shown.sku);
COMMENT ON VIEW coverage IS 'one row per SKU of the catalog or of a current picture';
COMMENT ON COLUMN coverage.name IS 'what people call the product; null when the index does not know it';
COMMENT ON COLUMN coverage.collection IS 'as in catalog; null when the index does not know it';
COMMENT ON COLUMN coverage.status IS 'as in catalog; null when the index does not know it';
COMMENT ON COLUMN coverage.images IS 'current pictures that name it';
COMMENT ON COLUMN coverage.alone IS 'those of them that name nothing else';
COMMENT ON COLUMN coverage.nights IS 'nights that they are of';
COMMENT ON COLUMN coverage.first_day IS 'the first of these; null when there is none';
COMMENT ON COLUMN coverage.last_day IS 'the last of these; null when there is none';
COMMENT ON COLUMN coverage.held_back IS 'pictures of it that are held back';

CREATE OR REPLACE VIEW nights AS
WITH pictures AS (FROM images UNION ALL BY NAME FROM held_back),
counted AS (
    SELECT day,
           count(*) FILTER (state = 'current') AS images,
           count(*) FILTER (state = 'superseded') AS superseded,
           count(*) FILTER (state = 'held back' AND NOT superseded) AS held_back,
           count(*) FILTER (state = 'current' AND verdict = 'passed') AS passed,
           coalesce(sum(attempts) FILTER (state = 'current'), 0)::BIGINT AS attempts
    FROM pictures GROUP BY day),
-- A picture that was published before it was held back has a row in both.
timed AS (
    SELECT day, sum(render_seconds) AS render_seconds
    FROM (SELECT day, image_id, sha256, max(render_seconds) AS render_seconds
          FROM pictures GROUP BY ALL)
    GROUP BY day),
measured AS (
    SELECT day, avg(value) FILTER (score = 'found') AS found,
           avg(value) FILTER (score = 'found_first') AS found_first,
           avg(value) FILTER (score = 'fidelity') AS fidelity
    FROM scores WHERE state = 'current' AND sku IS NOT NULL GROUP BY day),
named AS (
    SELECT day, count(DISTINCT sku) AS skus
    FROM products WHERE state = 'current' GROUP BY day)
SELECT counted.day AS day, images, superseded, held_back, coalesce(skus, 0) AS skus, passed,
       attempts, found, found_first, fidelity, render_seconds
FROM counted JOIN timed ON timed.day = counted.day
LEFT JOIN measured ON measured.day = counted.day
LEFT JOIN named ON named.day = counted.day;
COMMENT ON VIEW nights IS 'one row per night that has a picture, published or held back';
COMMENT ON COLUMN nights.images IS 'current pictures';
COMMENT ON COLUMN nights.superseded IS 'published pictures that are no longer asked for';
COMMENT ON COLUMN nights.held_back IS 'pictures that the plan asks for and the gate holds back';
COMMENT ON COLUMN nights.skus IS 'products that the current pictures name';
COMMENT ON COLUMN nights.passed IS 'current pictures that the gate passed; it did not judge the others';
COMMENT ON COLUMN nights.attempts IS 'pictures made for the current ones';
COMMENT ON COLUMN nights.found IS 'share of the named products that are in their current pictures; null when none is judged';
COMMENT ON COLUMN nights.found_first IS 'the same of the first attempts; null when none is judged';
COMMENT ON COLUMN nights.fidelity IS 'mean likeness to the photos over current pictures and products; null when none is measured';
COMMENT ON COLUMN nights.render_seconds IS 'of all its pictures, those that are superseded or held back too';

CREATE OR REPLACE VIEW lineage AS
WITH learned AS (
    SELECT attempt_id, sku, concept_sha256, ended_utc, version
    FROM learning WHERE status = 'learned' AND concept_sha256 <> ''),
shown AS (
    SELECT p.image_id, p.day, p.state, p.sku, p.adapter_version, p.concept_sha256,
           p.photo_sha256 AS placed, l.attempt_id, l.ended_utc AS learned_utc,
           l.version AS learned_version
    FROM products p ASOF LEFT JOIN learned l
      ON l.sku = p.sku AND l.concept_sha256 = p.concept_sha256 AND p.created_utc >= l.ended_utc),
used AS (SELECT attempt_id, photo, photo_sha256 FROM learning_photos WHERE used)
SELECT s.* EXCLUDE (placed), u.photo AS photo, u.photo_sha256 AS photo_sha256,
       u.attempt_id IS NOT NULL AS learned_from,
       coalesce(u.photo_sha256 = s.placed, false) AS in_picture
FROM shown s LEFT JOIN used u ON u.attempt_id = s.attempt_id
WHERE u.attempt_id IS NOT NULL OR s.placed IS NULL
UNION ALL BY NAME
SELECT s.* EXCLUDE (placed), NULL AS photo, s.placed AS photo_sha256, false AS learned_from,
       true AS in_picture
FROM shown s ANTI JOIN used u ON u.attempt_id = s.attempt_id AND u.photo_sha256 = s.placed
WHERE s.placed IS NOT NULL;
COMMENT ON VIEW lineage IS 'one row per picture (image_id and state), product and photo that it comes from';
COMMENT ON COLUMN lineage.state IS 'of the picture: current, superseded or held back';
COMMENT ON COLUMN lineage.concept_sha256 IS 'of what the product was rendered from; null in rows of schema 3 and earlier';
COMMENT ON COLUMN lineage.attempt_id IS 'the newest attempt that learned just that before the picture was made; null when the log does not know it';
COMMENT ON COLUMN lineage.learned_utc IS 'when that was; null when the log does not know it';
COMMENT ON COLUMN lineage.learned_version IS 'adapter version that brought it; null when the log does not know it';
COMMENT ON COLUMN lineage.photo IS 'file of a photo, below the catalog''s root; null when the log does not know it';
COMMENT ON COLUMN lineage.photo_sha256 IS 'of that file; null when the log does not know it';
COMMENT ON COLUMN lineage.learned_from IS 'whether the product was learned from it';
COMMENT ON COLUMN lineage.in_picture IS 'whether the photo itself stands in the picture';

CREATE OR REPLACE VIEW history AS
WITH stamped AS (
    SELECT file_name, max(value) FILTER (key = 'published_utc')::TIMESTAMPTZ AS published_utc,
           coalesce(max(value) FILTER (key = 'previous_version'), '') AS previous
    FROM stamps_of('state_files') GROUP BY file_name)
SELECT h.* EXCLUDE (filename), if(superseded, 'superseded', 'current') AS state,
       regexp_extract(filename, '([0-9a-f]+)[.]parquet$', 1) AS version,
       s.previous AS previous, s.published_utc AS published_utc
FROM whole_rows('state_files') h JOIN stamped s ON s.file_name = h.filename;
COMMENT ON VIEW history IS 'one row per state that a night has had and published picture';
COMMENT ON COLUMN history.state IS 'current or superseded, then';
COMMENT ON COLUMN history.version IS 'of the night: SHA-256 of the Parquet file of that state';
COMMENT ON COLUMN history.previous IS 'version of the state that it replaced; empty for the first';
COMMENT ON COLUMN history.published_utc IS 'when the state came into force; null in files of schema 3 and earlier';

CREATE OR REPLACE VIEW changes AS
WITH dated AS (
    SELECT day, version, previous, published_utc, image_id, state, sha256, skus, reason,
           lag(state) OVER picture AS before, lag(sha256) OVER picture AS sha256_before
    FROM history WHERE published_utc IS NOT NULL
    WINDOW picture AS (PARTITION BY day, image_id ORDER BY published_utc)),
named AS (
    SELECT *, CASE WHEN before IS NULL THEN 'added'
                   WHEN state <> before AND state = 'superseded' THEN 'superseded'
                   WHEN state <> before THEN 'asked for again'
                   WHEN sha256 <> sha256_before THEN 'made again' END AS change
    FROM dated)
SELECT n.published_utc AS changed_utc, n.day AS day, n.image_id AS image_id, n.change AS change,
       n.skus AS skus, n.reason AS reason, n.version AS version
FROM named n
LEFT JOIN (SELECT DISTINCT day, version FROM dated) known
       ON known.day = n.day AND known.version = n.previous
-- The first state with a time shows nothing new where an earlier one has none.
WHERE n.change IS NOT NULL
  AND (n.change <> 'added' OR n.previous = '' OR known.version IS NOT NULL);
COMMENT ON VIEW changes IS 'one row per change of a published picture: what each publication changed';
COMMENT ON COLUMN changes.changed_utc IS 'when the publication came into force';
COMMENT ON COLUMN changes.change IS 'added, superseded, asked for again or made again (another picture of the same job)';
COMMENT ON COLUMN changes.reason IS 'why it is superseded; empty otherwise';
COMMENT ON COLUMN changes.version IS 'of the night, from then on';
