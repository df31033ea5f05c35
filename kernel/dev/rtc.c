/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/rtc.c - date and time in CMOS clothes.
 *
 * Nothing ticks: the date registers are computed when read.  When the guest sets one, the whole date is taken apart,
 * changed and put together again, and the difference to the guest's wall clock is kept.  While register B's SET bit
 * holds the clock, the registers live in ram. */
#include "kernel/dev/devices.h"

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CENTURY = 0x32
};
#define A_UIP    0x80
#define B_SET    0x80
#define B_BINARY 0x04
#define B_24H    0x02
#define UIP_NS   244000u /* an update is announced this long ahead */
#define NS_PER_S UINT64_C(1000000000)

static const uint8_t date_regs[] = { SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY };

static bool is_date(uint8_t reg)
{
    for (unsigned i = 0; i < sizeof(date_regs); i++)
        if (date_regs[i] == reg)
            return true;
    return false;
}

void rtc_reset(struct vm *vm)
{
    struct rtc *r = &vm->devices->rtc;
    r->index = 0;
    r->ram[REG_A] = 0x26; /* 32768 Hz, 1024 Hz rate */
    r->ram[REG_B] = B_24H;
    r->ram[REG_C] = 0;
    r->ram[REG_D] = 0x80; /* battery good */
}

/* ---- days and dates ----
 * Proleptic Gregorian, counted from 1970-01-01 with years that start in March, so that the leap day is the last. */

static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    if (month <= 2)
        year--;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned yoe = (unsigned)(year - era * 400);
    unsigned doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static void date_from_days(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned doe = (unsigned)(days - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned m = (5 * doy + 2) / 153;
    *day = doy - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = (unsigned)((int64_t)yoe + era * 400 + (*month <= 2));
}

/* ---- registers to values and back ---- */

static uint8_t encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->ram[REG_B] & B_BINARY ? v : (v / 10 % 10) << 4 | v % 10);
}
static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->ram[REG_B] & B_24H)
        return encode(r, h);
    return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}
static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->ram[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Fill the date registers in ram with the date now. */
static void ram_fill(struct vm *vm)
{
    struct rtc *r = &vm->devices->rtc;
    int64_t s = (int64_t)(guest_wall_ns(vm) / NS_PER_S) + r->offset_s;
    if (s < 0)
        s = 0;
    unsigned year, month, day, tod = (unsigned)(s % 86400);
    date_from_days(s / 86400, &year, &month, &day);
    r->ram[SECONDS] = encode(r, tod % 60);
    r->ram[MINUTES] = encode(r, tod / 60 % 60);
    r->ram[HOURS] = encode_hour(r, tod / 3600);
    r->ram[WEEKDAY] = encode(r, (unsigned)((s / 86400 + 4) % 7 + 1));
    r->ram[DAY] = encode(r, day);
    r->ram[MONTH] = encode(r, month);
    r->ram[YEAR] = encode(r, year % 100);
    r->ram[CENTURY] = encode(r, year / 100);
}

/* The date registers in ram are the date now. */
static void ram_take(struct vm *vm)
{
    struct rtc *r = &vm->devices->rtc;
    unsigned month = decode(r, r->ram[MONTH]), year = decode(r, r->ram[CENTURY]) * 100 + decode(r, r->ram[YEAR]);
    if (month < 1)
        month = 1;
    if (month > 12)
        month = 12;
    int64_t s = days_from_date(year, month, decode(r, r->ram[DAY])) * 86400;
    s += decode_hour(r, r->ram[HOURS]) * 3600 + decode(r, r->ram[MINUTES]) * 60 + decode(r, r->ram[SECONDS]);
    r->offset_s = s - (int64_t)(guest_wall_ns(vm) / NS_PER_S);
}

uint8_t rtc_port_read(struct vm *vm, uint16_t port)
{
    struct rtc *r = &vm->devices->rtc;
    if (port == 0x70)
        return 0xff; /* write-only */
    bool held = r->ram[REG_B] & B_SET;
    if (r->index == REG_A) {
        bool uip = !held && guest_wall_ns(vm) % NS_PER_S >= NS_PER_S - UIP_NS;
        return (uint8_t)((r->ram[REG_A] & 0x7f) | (uip ? A_UIP : 0));
    }
    if (is_date(r->index) && !held)
        ram_fill(vm);
    return r->ram[r->index];
}

static void reg_b_write(struct vm *vm, uint8_t val)
{
    struct rtc *r = &vm->devices->rtc;
    bool was_held = r->ram[REG_B] & B_SET, held = val & B_SET;
    if (held && !was_held)
        ram_fill(vm);
    if (was_held && !held)
        ram_take(vm);
    r->ram[REG_B] = val;
}

void rtc_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    struct rtc *r = &vm->devices->rtc;
    if (port == 0x70) {
        r->index = val & 0x7f;
        return;
    }
    if (r->index == REG_B) {
        reg_b_write(vm, val);
        return;
    }
    if (r->index == REG_C || r->index == REG_D)
        return;
    if (is_date(r->index) && !(r->ram[REG_B] & B_SET)) {
        ram_fill(vm);
        r->ram[r->index] = val;
        ram_take(vm);
    } else {
        r->ram[r->index] = val;
    }
}
