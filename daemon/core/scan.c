/* The fast lane: many JSON records in, exact columns out, and a mark on each record that it does not vouch for.
 *
 * It takes the spellings that APIs use and refuses all others ("odd"): the strict lane, which is the authority, reads those.
 * So it may be as narrow as it likes, but what it takes it must read exactly as strict.py and scalars.py do; where a rule
 * stands there, this file only names it. A property test and a fuzzer hold both against each other.
 *
 * Text ends: the blob must be followed by a NUL byte (as a Python bytes object is). No loop here goes past a NUL, so nothing
 * is read beyond the blob, and a record that runs on past its own end is noticed there, and odd.
 *
 * Plain C11, no Python: loaded with ctypes, which releases Python's lock during a call.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ID_BYTES = 256, MAX_METADATA_BYTES = 65535, MAX_DEPTH = 512, WHOLE_DIGITS = 14, EPOCH_DIGITS = 15 };
static const int64_t DECIMAL_LIMIT = 1000000000000000000, MILLISECONDS_FROM = 100000000000;

typedef const uint8_t *Text;

/* ---------------------------------------------------------------------------------------------------------- columns */

/* A column of numbers or of texts. Text i is bytes[offsets[i]] to bytes[offsets[i + 1]]. `valid` is one byte a value. */
typedef struct {
    int64_t *values; /* numbers: the values; texts: the offsets, one more than there are values */
    uint8_t *valid;
    uint8_t *bytes;
    int64_t count, room, used, bytes_room;
} Column;

/* The order of these columns is that of native.py. */
enum { ORDER_ID, CREATED_AT, UPDATED_AT, USER_ID, AMOUNT, CURRENCY, METADATA, ITEMS, RECORD_COLUMNS };
enum { SKU = RECORD_COLUMNS, QTY, PRICE, COLUMNS };
static const bool is_text[COLUMNS] = {[ORDER_ID] = true, [USER_ID] = true, [CURRENCY] = true, [METADATA] = true, [SKU] = true};

typedef struct {
    Column columns[COLUMNS]; /* ITEMS: the offsets of each record's items */
    uint8_t *odd;            /* by record */
    bool high, failed;       /* the record holds bytes beyond ASCII; memory ran out */
} Scan;

static bool reserve(void **memory, int64_t *room, int64_t wanted, size_t size) {
    if (wanted <= *room) return true;
    int64_t larger = *room + *room / 2 + 256;
    if (larger < wanted) larger = wanted;
    void *moved = realloc(*memory, (size_t)larger * size);
    if (!moved) return false;
    *memory = moved;
    *room = larger;
    return true;
}

/* Makes room for one more value, and for so many bytes of text. */
static bool grow(Scan *scan, Column *column, int64_t bytes) {
    if (column->count + 2 > column->room) {
        int64_t room = column->room;
        if (!reserve((void **)&column->values, &room, column->count + 2, sizeof(int64_t))) return scan->failed = true, false;
        uint8_t *valid = realloc(column->valid, (size_t)room);
        if (!valid) return scan->failed = true, false;
        column->valid = valid;
        column->room = room;
        if (column->count == 0) column->values[0] = 0;
    }
    if (!reserve((void **)&column->bytes, &column->bytes_room, column->used + bytes, 1)) return scan->failed = true, false;
    return true;
}

static bool put_number(Scan *scan, int column, int64_t value, bool valid) {
    Column *into = &scan->columns[column];
    if (!grow(scan, into, 0)) return false;
    into->values[into->count] = valid ? value : 0;
    into->valid[into->count++] = valid;
    return true;
}

/* Ends a text whose bytes are in place up to `used`. */
static void end_text(Column *into, int64_t used, bool valid) {
    into->used = used;
    into->valid[into->count++] = valid;
    into->values[into->count] = used;
}

static bool put_null(Scan *scan, int column) {
    Column *into = &scan->columns[column];
    if (!is_text[column]) return put_number(scan, column, 0, false);
    if (!grow(scan, into, 0)) return false;
    end_text(into, into->used, false);
    return true;
}

/* ---------------------------------------------------------------------------------------------------- the JSON grammar */

/* Every function here takes the place where a token begins and gives the place after it, or NULL where it is odd. */

enum { PLAIN, QUOTE, ESCAPE, CONTROL, HIGH };
static uint8_t class_of[256];

static void prepare_classes(void) {
    for (int byte = 0; byte < 256; byte++) class_of[byte] = byte < 32 ? CONTROL : byte >= 128 ? HIGH : PLAIN;
    class_of['"'] = QUOTE;
    class_of['\\'] = ESCAPE;
}

static Text space(Text p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
    return p;
}

static bool is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }

static int hex(uint8_t byte) {
    if (is_digit(byte)) return byte - '0';
    byte |= 32;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The value of four hexadecimal digits; -1 where they are none. */
static int32_t hex4(Text p) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex(p[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* A string, from after its opening quote to after its closing one. */
static Text string(Scan *scan, Text p, bool *escaped) {
    for (;;) {
        while (class_of[*p] == PLAIN) p++;
        switch (class_of[*p]) {
        case QUOTE: return p + 1;
        case HIGH: scan->high = true; p++; break;
        case ESCAPE:
            *escaped = true;
            if (p[1] == 'u') {
                if (hex4(p + 2) < 0) return NULL;
                p += 6;
            } else {
                if (!p[1] || !strchr("\"\\/bfnrt", p[1])) return NULL;
                p += 2;
            }
            break;
        default: return NULL;
        }
    }
}

/* A number: where its fraction begins (after the point) or NULL, and whether it has an exponent. */
static Text number(Text p, Text *fraction, bool *exponent) {
    *fraction = NULL;
    *exponent = false;
    if (*p == '-') p++;
    if (*p == '0') p++;
    else if (is_digit(*p)) while (is_digit(*p)) p++;
    else return NULL;
    if (*p == '.') {
        if (!is_digit(*++p)) return NULL;
        *fraction = p;
        while (is_digit(*p)) p++;
    }
    if (*p == 'e' || *p == 'E') {
        *exponent = true;
        p++;
        if (*p == '+' || *p == '-') p++;
        if (!is_digit(*p)) return NULL;
        while (is_digit(*p)) p++;
    }
    return p;
}

static Text literal(Text p, const char *word) {
    while (*word) if (*p++ != (uint8_t)*word++) return NULL;
    return p;
}

/* A string, number or literal. */
static Text scalar(Scan *scan, Text p) {
    Text fraction;
    bool flag = false;
    switch (*p) {
    case '"': return string(scan, p + 1, &flag);
    case 't': return literal(p, "true");
    case 'f': return literal(p, "false");
    case 'n': return literal(p, "null");
    default: return number(p, &fraction, &flag);
    }
}

static uint8_t *kept(uint8_t *into, Text from, Text to) {
    if (into) memcpy(into, from, (size_t)(to - from)), into += to - from;
    return into;
}

/* Any value, of which `depth` brackets are open around. Where `into` is given, the value goes there without the white space
 * between its tokens, and `*into` moves on; it is never longer than it was. */
static Text value(Scan *scan, Text p, int depth, uint8_t **into) {
    uint8_t *out = into ? *into : NULL;
    bool object[MAX_DEPTH + 1];
    int open = 0;
    for (;;) {
        if (*p == '{' || *p == '[') {
            if (depth + open >= MAX_DEPTH) return NULL;
            bool is_object = object[open++] = *p == '{';
            out = kept(out, p, p + 1);
            p = space(p + 1);
            if (*p != (is_object ? '}' : ']')) {
                if (is_object) goto key;
                continue;
            }
        } else {
            Text end = scalar(scan, p);
            if (!end) return NULL;
            out = kept(out, p, end);
            p = end;
            if (!open) break;
            p = space(p);
        }
        while (*p == (object[open - 1] ? '}' : ']')) {
            out = kept(out, p, p + 1);
            p++;
            if (!--open) goto done;
            p = space(p);
        }
        if (*p != ',') return NULL;
        out = kept(out, p, p + 1);
        p = space(p + 1);
        if (!object[open - 1]) continue;
    key:;
        bool escaped = false;
        Text end = *p == '"' ? string(scan, p + 1, &escaped) : NULL;
        if (!end) return NULL;
        out = kept(out, p, end);
        p = space(end);
        if (*p != ':') return NULL;
        out = kept(out, p, p + 1);
        p = space(p + 1);
    }
done:
    if (into) *into = out;
    return p;
}

/* Whether a text is UTF-8: no overlong form, no surrogate, nothing beyond U+10FFFF. */
static bool is_utf8(Text p, Text end) {
    while (p < end) {
        uint8_t first = *p;
        if (first < 0x80) {
            p++;
            continue;
        }
        int more = first >= 0xC2 && first < 0xE0 ? 1 : first >= 0xE0 && first < 0xF0 ? 2 : first >= 0xF0 && first < 0xF5 ? 3 : 0;
        if (!more || end - p <= more) return false;
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (p[1] < low || p[1] > high) return false;
        for (int i = 2; i <= more; i++) if ((p[i] & 0xC0) != 0x80) return false;
        p += more + 1;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ the kinds of fields */

static bool is_white(uint8_t byte) { return byte == ' ' || (uint8_t)(byte - 9) <= 4; } /* scalars.WHITE_SPACE */

static void strip(Text *from, Text *to) {
    while (*from < *to && is_white(**from)) ++*from;
    while (*from < *to && is_white((*to)[-1])) --*to;
}

static uint8_t *utf8_of(int32_t code, uint8_t *out) {
    if (code < 0x80) {
        *out++ = (uint8_t)code;
    } else if (code < 0x800) {
        *out++ = (uint8_t)(0xC0 | code >> 6);
        *out++ = (uint8_t)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *out++ = (uint8_t)(0xE0 | code >> 12);
        *out++ = (uint8_t)(0x80 | (code >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (code & 63));
    } else {
        *out++ = (uint8_t)(0xF0 | code >> 18);
        *out++ = (uint8_t)(0x80 | (code >> 12 & 63));
        *out++ = (uint8_t)(0x80 | (code >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (code & 63));
    }
    return out;
}

/* What a string that has escapes says, written to `out` (never longer than it is spelled); NULL at a lone surrogate. */
static uint8_t *unescaped(Text p, Text end, uint8_t *out) {
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
        } else if (p[1] == 'u') {
            int32_t code = hex4(p + 2);
            p += 6;
            if (code >= 0xD800 && code < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
                int32_t second = hex4(p + 2);
                if (second < 0xDC00 || second > 0xDFFF) return NULL;
                code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
                p += 6;
            }
            if (code >= 0xD800 && code < 0xE000) return NULL;
            out = utf8_of(code, out);
        } else {
            const char *letter = strchr(letters, p[1]);
            *out++ = letter ? (uint8_t)meant[letter - letters] : p[1];
            p += 2;
        }
    }
    return out;
}

/* scalars.read_text: a stripped string, or an integer as it is written. */
static Text read_text(Scan *scan, Text p, int column) {
    Column *into = &scan->columns[column];
    if (*p != '"') {
        Text fraction, end;
        bool exponent;
        if (*p == 'n') return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
        end = number(p, &fraction, &exponent);
        if (!end || fraction || exponent || end - p > MAX_ID_BYTES || (p[0] == '-' && p[1] == '0')) return NULL;
        if (!grow(scan, into, end - p)) return NULL;
        memcpy(into->bytes + into->used, p, (size_t)(end - p));
        end_text(into, into->used + (end - p), true);
        return end;
    }
    bool escaped = false;
    Text end = string(scan, p + 1, &escaped);
    if (!end || !grow(scan, into, end - p)) return NULL;
    Text from = p + 1, to = end - 1;
    if (escaped) { /* decoded in place of the text, and moved to the front of it where white space goes */
        uint8_t *begin = into->bytes + into->used, *stop = unescaped(from, to, begin);
        if (!stop) return NULL;
        from = begin;
        to = stop;
    }
    strip(&from, &to);
    int64_t length = to - from;
    if (length > MAX_ID_BYTES) return NULL;
    memmove(into->bytes + into->used, from, (size_t)length);
    end_text(into, into->used + length, length > 0);
    return end;
}

/* scalars.read_decimal, for what has up to 14 digits before the point and no exponent: units of 1/10,000, rounded half away
 * from zero. A number with no more text after it at `end`. */
static bool decimal(Text p, Text end, int64_t *units) {
    Text fraction;
    bool exponent;
    if (number(p, &fraction, &exponent) != end || exponent) return false;
    bool negative = *p == '-';
    p += negative;
    Text whole_end = fraction ? fraction - 1 : end;
    if (whole_end - p > WHOLE_DIGITS) return false;
    int64_t total = 0;
    for (; p < whole_end; p++) total = total * 10 + (*p - '0');
    for (int i = 0; i < 4; i++) total = total * 10 + (fraction && fraction + i < end ? fraction[i] - '0' : 0);
    if (fraction && end - fraction > 4 && fraction[4] >= '5') total++;
    if (total >= DECIMAL_LIMIT) return false;
    *units = negative ? -total : total;
    return true;
}

static Text read_decimal(Scan *scan, Text p, int column) {
    Text fraction, end, from = p, to;
    bool flag = false;
    if (*p == '"') {
        end = string(scan, p + 1, &flag);
        if (!end || flag) return NULL;
        from = p + 1, to = end - 1;
        strip(&from, &to);
        if (from == to) return put_null(scan, column) ? end : NULL;
    } else if (*p == 'n') {
        return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
    } else {
        to = end = number(p, &fraction, &flag);
        if (!end) return NULL;
    }
    int64_t units;
    return decimal(from, to, &units) && put_number(scan, column, units, true) ? end : NULL;
}

/* So many digits as a number; false where they are none. */
static bool digits(Text p, int count, int64_t *into) {
    int64_t total = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(p[i])) return false;
        total = total * 10 + (p[i] - '0');
    }
    *into = total;
    return true;
}

static int64_t days_since_1970(int64_t year, int64_t month, int64_t day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t last = year - 1;
    return last * 365 + last / 4 - last / 100 + last / 400 + before[month - 1] + (leap && month > 2) + day - 1 - 719162;
}

static bool is_date(int64_t year, int64_t month, int64_t day) {
    static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1 || month < 1 || month > 12 || day < 1) return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= length[month - 1] + (leap && month == 2);
}

/* scalars._INSTANT: microseconds since 1970. Every byte that is looked at lies before the closing quote, or is it. */
static bool instant(Text p, Text end, int64_t *micros) {
    int64_t year, month, day, hour = 0, minute = 0, second = 0, fraction = 0, zone_hour = 0, zone_minute = 0;
    int sign = 0;
    if (end - p < 10 || !digits(p, 4, &year) || p[4] != '-' || !digits(p + 5, 2, &month) || p[7] != '-' ||
        !digits(p + 8, 2, &day) || !is_date(year, month, day))
        return false;
    p += 10;
    if (p < end) {
        if (end - p < 6 || (*p != 'T' && *p != ' ') || !digits(p + 1, 2, &hour) || p[3] != ':' || !digits(p + 4, 2, &minute))
            return false;
        p += 6;
        if (*p == ':') {
            if (!digits(p + 1, 2, &second)) return false;
            p += 3;
            if (*p == '.') {
                if (!is_digit(*++p)) return false;
                for (int64_t unit = 100000; is_digit(*p); p++, unit /= 10) fraction += unit * (*p - '0');
            }
        }
        if (*p == 'Z') {
            p++;
        } else if (*p == '+' || *p == '-') {
            sign = *p == '-' ? 1 : -1;
            if (!digits(p + 1, 2, &zone_hour)) return false;
            p += 3;
            if (*p == ':') p++;
            if (!digits(p, 2, &zone_minute)) return false;
            p += 2;
        }
    }
    if (p != end || hour > 23 || minute > 59 || second > 59 || zone_hour > 23 || zone_minute > 59) return false;
    int64_t seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    seconds += sign * (zone_hour * 3600 + zone_minute * 60);
    *micros = seconds * 1000000 + fraction;
    return *micros >= 0;
}

/* scalars.read_instant: an ISO text, or a whole epoch number of seconds or milliseconds. */
static Text read_instant(Scan *scan, Text p, int column) {
    Text end;
    bool flag = false;
    int64_t micros;
    if (*p == '"') {
        end = string(scan, p + 1, &flag);
        if (!end || flag) return NULL;
        Text from = p + 1, to = end - 1;
        strip(&from, &to);
        if (from == to) return put_null(scan, column) ? end : NULL;
        return instant(from, to, &micros) && put_number(scan, column, micros, true) ? end : NULL;
    }
    if (*p == 'n') return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
    Text fraction;
    end = number(p, &fraction, &flag);
    if (!end || fraction || flag || *p == '-' || end - p > EPOCH_DIGITS) return NULL;
    if (!digits(p, (int)(end - p), &micros)) return NULL;
    micros *= micros >= MILLISECONDS_FROM ? 1000 : 1000000;
    return put_number(scan, column, micros, true) ? end : NULL;
}

/* scalars.read_metadata: any value but a string, as compact text. */
static Text read_metadata(Scan *scan, Text p, int column) {
    Column *into = &scan->columns[column];
    Text end = literal(p, "null");
    if (end) return put_null(scan, column) ? end : NULL;
    if (*p == '"') return NULL;
    /* Its length is not known yet, so it is looked through once, and copied the second time. */
    end = value(scan, p, 1, NULL);
    if (!end || !grow(scan, into, end - p)) return NULL;
    uint8_t *out = into->bytes + into->used;
    value(scan, p, 1, &out);
    if (out - (into->bytes + into->used) > MAX_METADATA_BYTES) return NULL;
    end_text(into, out - into->bytes, true);
    return end;
}

/* ------------------------------------------------------------------------------------------------- items and records */

typedef Text (*Read)(Scan *, Text, int);
typedef struct {
    const char *name;
    int length, column;
    Read read;
} Field;

static Text read_items(Scan *scan, Text p, int column);

static const Field ORDER[] = {
    {"order_id", 8, ORDER_ID, read_text},        {"user_id", 7, USER_ID, read_text},
    {"amount", 6, AMOUNT, read_decimal},         {"currency", 8, CURRENCY, read_text},
    {"created_at", 10, CREATED_AT, read_instant}, {"updated_at", 10, UPDATED_AT, read_instant},
    {"items", 5, ITEMS, read_items},             {"metadata", 8, METADATA, read_metadata},
    {NULL, 0, 0, NULL},
};
static const Field ITEM[] = {
    {"sku", 3, SKU, read_text}, {"qty", 3, QTY, read_decimal}, {"price", 5, PRICE, read_decimal}, {NULL, 0, 0, NULL},
};

/* An object's members, each at most once: fields into their columns, those that it lacks as NULL; others are skipped. */
static Text members(Scan *scan, Text p, const Field *fields, int depth) {
    uint32_t seen = 0;
    const Field *field, *expected = fields; /* the next field in the usual order is tried first */
    p = space(p + 1);
    if (*p == '}') {
        p++;
    } else {
        for (;;) {
            if (*p != '"') return NULL;
            bool escaped = false;
            Text end = string(scan, p + 1, &escaped);
            if (!end || escaped) return NULL;
            int64_t length = end - p - 2;
            for (field = expected; field->name; field++)
                if (field->length == length && !memcmp(field->name, p + 1, (size_t)length)) break;
            if (!field->name)
                for (field = fields; field->name; field++)
                    if (field->length == length && !memcmp(field->name, p + 1, (size_t)length)) break;
            p = space(end);
            if (*p != ':') return NULL;
            p = space(p + 1);
            if (field->name) {
                uint32_t bit = 1u << field->column;
                if (seen & bit) return NULL;
                seen |= bit;
                expected = field + 1;
                p = field->read(scan, p, field->column);
            } else {
                p = value(scan, p, depth, NULL);
            }
            if (!p) return NULL;
            p = space(p);
            if (*p == '}') {
                p++;
                break;
            }
            if (*p != ',') return NULL;
            p = space(p + 1);
        }
    }
    for (field = fields; field->name; field++) {
        if (seen & 1u << field->column) continue;
        bool done = field->column == ITEMS ? put_number(scan, ITEMS, scan->columns[SKU].count, true) : put_null(scan, field->column);
        if (!done) return NULL;
    }
    return p;
}

/* A list of objects, or null. ITEMS has where each record's items end. */
static Text read_items(Scan *scan, Text p, int column) {
    Text end = literal(p, "null");
    if (end) {
        p = end;
    } else {
        if (*p != '[') return NULL;
        p = space(p + 1);
        if (*p == ']') {
            p++;
        } else {
            for (;;) {
                if (*p != '{' || !(p = members(scan, p, ITEM, 3))) return NULL;
                p = space(p);
                if (*p == ']') {
                    p++;
                    break;
                }
                if (*p != ',') return NULL;
                p = space(p + 1);
            }
        }
    }
    return put_number(scan, column, scan->columns[SKU].count, true) ? p : NULL;
}

/* Takes back what an odd record has left in the columns, and gives it NULLs. */
static void give_up(Scan *scan, int64_t record, int64_t items) {
    for (int i = 0; i < COLUMNS; i++) {
        Column *column = &scan->columns[i];
        column->count = i < RECORD_COLUMNS ? record : items;
        if (is_text[i]) column->used = column->values[column->count];
    }
    for (int i = 0; i < RECORD_COLUMNS; i++) {
        if (i == ITEMS) put_number(scan, ITEMS, items, true);
        else put_null(scan, i);
    }
}

/* ---------------------------------------------------------------------------------------------------------- allocation */

typedef unsigned __int128 Wide;

/* Spreads amount[i] over the lines up to stops[i] by weight qty × price (none negative but the amount): facts.allocate. An
 * order whose weights sum up to 2^63 or more is left, and named in `huge`. The number of those. */
int64_t strandline_allocate(const int64_t *amount, const int64_t *qty, const int64_t *price, const int64_t *stops, int64_t count,
                            int64_t *shares, int64_t *huge) {
    int64_t start = 0, left = 0;
    for (int64_t order = 0; order < count; start = stops[order++]) {
        Wide total = 0;
        for (int64_t line = start; line < stops[order] && total < (Wide)1 << 63; line++) total += (Wide)qty[line] * (Wide)price[line];
        if (total >= (Wide)1 << 63) {
            huge[left++] = order;
            continue;
        }
        uint64_t weight = (uint64_t)total, running = 0;
        uint64_t size = amount[order] < 0 ? -(uint64_t)amount[order] : (uint64_t)amount[order];
        int64_t sign = amount[order] < 0 ? -1 : 1, given = 0;
        bool even = weight == 0; /* all weights 0: equal weights */
        if (even) weight = (uint64_t)(stops[order] - start);
        for (int64_t line = start; line < stops[order]; line++) {
            running += even ? 1 : (uint64_t)qty[line] * (uint64_t)price[line];
            /* size < 2^60 and running <= weight < 2^63: the product has room, and the quotient is at most `size`. */
            int64_t upto = running == weight ? (int64_t)size : (int64_t)((2 * (Wide)size * running + weight) / (2 * (Wide)weight));
            shares[line] = sign * (upto - given);
            given = upto;
        }
    }
    return left;
}

/* ------------------------------------------------------------------------------------------------------ what is called */

const char strandline_source[] = SOURCE_HASH; /* the SHA-256 of all sources as they were compiled */

/* Reads `count` records, record i from blob[starts[i]] to blob[stops[i]]. 0, or -1 where memory ran out. Always followed by
 * strandline_release. */
int strandline_scan(Text blob, const int64_t *starts, const int64_t *stops, int64_t count, Scan *scan) {
    prepare_classes();
    scan->odd = calloc((size_t)count + 1, 1);
    if (!scan->odd) return -1;
    for (int i = 0; i < COLUMNS; i++) if (!grow(scan, &scan->columns[i], 0)) return -1;
    for (int64_t record = 0; record < count; record++) {
        Text start = blob + starts[record], stop = blob + stops[record];
        int64_t items = scan->columns[SKU].count;
        scan->high = false;
        Text end = *start == '{' ? members(scan, start, ORDER, 1) : NULL;
        if (scan->failed) return -1;
        bool taken = end == stop && (!scan->high || is_utf8(start, stop)) && scan->columns[ORDER_ID].valid[record]
                     && scan->columns[CREATED_AT].valid[record];
        if (!taken) {
            scan->odd[record] = 1;
            give_up(scan, record, items);
            if (scan->failed) return -1;
        }
    }
    return 0;
}

void strandline_release(Scan *scan) {
    for (int i = 0; i < COLUMNS; i++) {
        free(scan->columns[i].values);
        free(scan->columns[i].valid);
        free(scan->columns[i].bytes);
    }
    free(scan->odd);
    memset(scan, 0, sizeof *scan);
}

/* Places in a text: part i is blob[starts[i]] to blob[stops[i]]. */
typedef struct {
    int64_t *starts, *stops;
    int64_t count, room;
} Spans;

static bool add_span(Spans *spans, int64_t start, int64_t stop) {
    int64_t room = spans->room;
    if (!reserve((void **)&spans->starts, &room, spans->count + 1, sizeof(int64_t))) return false;
    if (room > spans->room) {
        int64_t *stops = realloc(spans->stops, (size_t)room * sizeof(int64_t));
        if (!stops) return false;
        spans->stops = stops;
        spans->room = room;
    }
    spans->starts[spans->count] = start;
    spans->stops[spans->count++] = stop;
    return true;
}

static bool is_blank(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\r'; }

/* The lines of a text that are not blank, without the blanks around them. 0, or -1 where memory ran out. */
int strandline_lines(Text blob, int64_t length, Spans *spans) {
    for (int64_t start = 0; start < length;) {
        Text newline = memchr(blob + start, '\n', (size_t)(length - start));
        int64_t next = newline ? newline - blob + 1 : length, stop = newline ? next - 1 : length;
        while (start < stop && is_blank(blob[start])) start++;
        while (start < stop && is_blank(blob[stop - 1])) stop--;
        if (start < stop && !add_span(spans, start, stop)) return -1;
        start = next;
    }
    return 0;
}

/* The values of an array, or the keys and values of an object in turn, of a text that is one such document, or (`open`) the
 * inside of an array. 0; 1 where it is odd: no JSON, or nested too deep; -1 where memory ran out. */
int strandline_parts(Text blob, int64_t length, int open, Spans *spans) {
    Scan scan = {0};
    Text p = space(blob), end, stop = blob + length;
    bool object = !open && *p == '{';
    uint8_t close = object ? '}' : ']';
    prepare_classes();
    if (!open) {
        if (!object && *p != '[') return 1;
        p = space(p + 1);
        if (*p == close) return space(p + 1) == stop ? 0 : 1;
    }
    for (;;) {
        if (object) {
            bool escaped = false;
            end = *p == '"' ? string(&scan, p + 1, &escaped) : NULL;
            if (!end) return 1;
            if (!add_span(spans, p - blob, end - blob)) return -1;
            p = space(end);
            if (*p != ':') return 1;
            p = space(p + 1);
        }
        end = value(&scan, p, 0, NULL);
        if (!end || end > stop) return 1;
        if (!add_span(spans, p - blob, end - blob)) return -1;
        p = space(end);
        if (open && p == stop) return 0;
        if (!open && *p == close) return space(p + 1) == stop ? 0 : 1;
        if (*p != ',') return 1;
        p = space(p + 1);
    }
}

void strandline_release_spans(Spans *spans) {
    free(spans->starts);
    free(spans->stops);
    memset(spans, 0, sizeof *spans);
}

/* Copies the texts `order[i]` one after the other; `out_offsets` is filled first, so that the caller can make room. */
void strandline_text_offsets(const int64_t *offsets, const int64_t *order, int64_t count, int64_t *out_offsets) {
    out_offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) out_offsets[i + 1] = out_offsets[i] + offsets[order[i] + 1] - offsets[order[i]];
}

void strandline_copy_texts(const int64_t *offsets, Text bytes, const int64_t *order, int64_t count, uint8_t *out) {
    for (int64_t i = 0; i < count; i++) {
        int64_t length = offsets[order[i] + 1] - offsets[order[i]];
        memcpy(out, bytes + offsets[order[i]], (size_t)length);
        out += length;
    }
}
