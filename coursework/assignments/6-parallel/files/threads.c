/* A checksum over 4 * 10^9 numbers, divided among the threads of one process (OpenMP).

   threads NUMBER */

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT UINT64_C(4000000000)

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: threads NUMBER\n");
        return 2;
    }
    uint64_t number = strtoull(argv[1], NULL, 10), sum = 0;
#pragma omp parallel for reduction(+ : sum)
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t x = number * i;
        sum += x * x * x;
    }
    printf("threads: %d\nchecksum: %" PRIu64 "\n", omp_get_max_threads(), sum);
    return 0;
}
