/* A program of which one part runs on one core only, and the rest is divided among the ranks.

   amdahl NUMBER      prints cores, seconds and a checksum

   How large the serial part is depends on NUMBER: between a twentieth and a fifth. */

#include <inttypes.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ALL UINT64_C(8000000000)

static uint64_t add_up(uint64_t number, uint64_t first, uint64_t last)
{
    uint64_t sum = 0;
    for (uint64_t i = first; i < last; i++) {
        uint64_t x = number * i;
        sum += x * x * x;
    }
    return sum;
}

/* MPI_Barrier would keep the cores of waiting ranks busy; these sleep. */
static void wait_for_all(void)
{
    MPI_Request request;
    int done = 0;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    while (MPI_Test(&request, &done, MPI_STATUS_IGNORE), !done)
        usleep(1000);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc != 2) {
        if (rank == 0)
            fprintf(stderr, "usage: amdahl NUMBER\n");
        MPI_Finalize();
        return 2;
    }
    uint64_t number = strtoull(argv[1], NULL, 10), mine = 0, sum = 0;
    uint64_t serial = ALL / 100 * (5 + number % 16), rest = ALL - serial;
    double start = MPI_Wtime();
    if (rank == 0)
        mine = add_up(number, 0, serial);
    wait_for_all();
    uint64_t first = serial + rest / size * rank;
    uint64_t last = rank == size - 1 ? ALL : first + rest / size;
    mine += add_up(number, first, last);
    wait_for_all();
    MPI_Reduce(&mine, &sum, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("cores: %d\nseconds: %.2f\nchecksum: %" PRIu64 "\n", size, MPI_Wtime() - start, sum);
    MPI_Finalize();
    return 0;
}
